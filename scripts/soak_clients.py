"""The senders, readers and targets of `scripts/soak`."""

import base64
import contextlib
import gzip
import http.client
import http.server
import json
import pathlib
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python_test_clients"))
from proxy_client import by_hand as capnp_message  # noqa: E402

STEP = 0.1  # seconds between the steps of a sender
HOLD = 50  # steps of a sender before it connects again
TOKEN, PASSWORD = "soak-token", "soak-password"
SERIES = 200  # of each app and group


class Failed(Exception):
    """The proxy misbehaves."""


def connection(proxy, ports, secure, source=None):
    if secure:
        context = ssl.create_default_context(cafile=proxy.certificate)
        return http.client.HTTPSConnection("127.0.0.1", ports[1], timeout=30, context=context)
    return http.client.HTTPConnection("127.0.0.1", ports[0], timeout=30, source_address=source)


def request(stream, method, path, body=None, headers=None, expected=range(200, 300)):
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    stream.request(method, path, body, {**authorization, **(headers or {})})
    answer = stream.getresponse()
    text = answer.read()
    if answer.status not in expected:
        raise Failed(f"{method} {path}: {answer.status} {text[:300]}")
    return answer, text


def exchange(proxy, method, path, body=None, secure=False):
    """Sends a request on a new connection, to the port of scrapes or of pushes."""
    ports = proxy.http if method == "GET" else proxy.push
    with contextlib.closing(connection(proxy, ports, secure)) as stream:
        return request(stream, method, path, body)


def text(name, generation):
    """Exposition text of about 20 KB, whose label values change with the generation."""
    metric = re.sub("[^a-z0-9]", "_", name)
    lines = [f"# HELP {metric}_value A value.\n# TYPE {metric}_value gauge\n"]
    for number in range(SERIES):
        run = generation if number % 4 == 0 else 0
        lines.append(f'{metric}_value{{number="{number}",path="/a/path/like/others",run="{run}"}} {random.random()}\n')
    return "".join(lines)


class Client:
    """A sender or a reader: one step at a time, and a new connection after HOLD steps."""

    def __init__(self, proxy, name, churn, leak):
        self.proxy, self.name, self.churn, self.leak = proxy, name, churn, leak
        self.steps = 0
        self.stream = None

    def generation(self):
        """A number in names and values. It changes every `churn` seconds; with a leak, at each step."""
        return self.steps if self.leak else int(time.monotonic() / self.churn)

    def run_step(self):
        if self.steps % HOLD == 0:
            self.leave()
        if self.stream is None:
            self.stream = self.connect()
        self.steps += 1
        self.step()

    def leave(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def connect(self):
        raise NotImplementedError

    def step(self):
        raise NotImplementedError


class Capnp(Client):
    """An app over TCP."""

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.proxy.tcp), timeout=30)

    def step(self):
        app = f"{self.name}-{self.generation()}"
        self.stream.sendall(capnp_message(app, text(self.name, self.generation())))


class Json(Client):
    """Apps over the Unix socket, one connection for each document."""

    def connect(self):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(30)
        stream.connect(self.proxy.unix)
        return stream

    def step(self):
        apps = {f"{self.name}-{self.generation()}-{n}": text(f"{self.name}{n}", self.generation()) for n in range(2)}
        self.stream.sendall(json.dumps(apps).encode())
        self.stream.shutdown(socket.SHUT_WR)
        if answer := self.stream.recv(4096):
            raise Failed(f"{self.name}: {answer}")
        self.leave()


class Broken(Client):
    """Senders that leave inside a message, reset the connection, or send what is rejected."""

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.proxy.tcp), timeout=30)

    def step(self):
        kind = self.steps % 3
        message = capnp_message("broken", text("broken", 0))
        if kind == 0:
            self.stream.sendall(message[: random.randrange(2, len(message))])
        elif kind == 1:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.stream.sendall(message[:100])
        else:
            self.stream.sendall(b'{"broken": [1]}')
            self.stream.shutdown(socket.SHUT_WR)
            if not self.stream.recv(4096).startswith(b"error: "):
                raise Failed("a wrong document was not rejected")
        self.leave()


class Push(Client):
    """Groups over HTTP or HTTPS: replaced, added to, compressed, deleted."""

    secure = False

    def connect(self):
        return connection(self.proxy, self.proxy.push, self.secure)

    def step(self):
        path = f"/metrics/job/{self.name}/run/{self.generation()}"
        body = text(self.name, self.generation())
        kind = self.steps % 4
        if kind == 0:
            request(self.stream, "DELETE", path)
        elif kind == 1:
            request(self.stream, "PUT", path, gzip.compress(body.encode(), 1), {"Content-Encoding": "gzip"})
        else:
            request(self.stream, ("PUT", "POST")[kind % 2], path, body)


class SecurePush(Push):
    """Pushes over TLS."""

    secure = True


class Rejected(Push):
    """Texts that are rejected."""

    def step(self):
        request(self.stream, "PUT", f"/metrics/job/rejected{self.steps}", 'a{b="1} 2\n', expected=(400,))


class Aggregate(Push):
    """Pushes that are added up, each with a key."""

    def step(self):
        run = self.generation()
        body = (
            "# TYPE soak_jobs_total counter\n"
            + "".join(f'soak_jobs_total{{number="{n}",run="{run}"}} 1\n' for n in range(50))
            + "# TYPE soak_seconds histogram\n"
            + "".join(f'soak_seconds_bucket{{le="{le}",run="{run}"}} 1\n' for le in ("0.1", "1", "+Inf"))
            + f'soak_seconds_sum{{run="{run}"}} 0.05\nsoak_seconds_count{{run="{run}"}} 1\n'
        )
        key = {"Idempotency-Key": f"{self.name}-{self.steps}"}
        request(self.stream, "POST", f"/metrics/job/{self.name}?mode=aggregate", body, key)


class Values(Push):
    """`/create` and `/update`, with a password."""

    def step(self):
        metrics = [{"labels": {"run": str(self.generation()), "n": str(n)}, "value": "2"} for n in range(10)]
        body = json.dumps([{"name": "soak_cups_total", "help": "Cups.", "type": "COUNTER", "metrics": metrics}])
        basic = base64.b64encode(f"soak:{PASSWORD}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {basic}"}
        request(self.stream, "POST", ("/create", "/update")[self.steps % 2], body, headers)


class Webhook(Push):
    """Notifications of Alertmanager."""

    def step(self):
        alert = {"status": "firing", "labels": {"alertname": f"Alert{self.steps % 10}", "run": str(self.steps)}}
        body = json.dumps({"receiver": "soak", "status": "firing", "alerts": [alert]})
        request(self.stream, "POST", "/webhook", body, {"Content-Type": "application/json"})


class Stranger(Client):
    """Wrong credentials, from changing addresses."""

    def connect(self):
        address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        return connection(self.proxy, self.proxy.push, False, (address, 0))

    def step(self):
        kind = ("Bearer wrong", "Basic c29hazp3cm9uZw==")[self.steps % 20 == 0]
        request(self.stream, "PUT", "/metrics/job/stranger", "m 1\n", {"Authorization": kind}, (401, 429))
        self.leave()


class OperationsTls(Client):
    """Operations as JSON over TCP with TLS."""

    def connect(self):
        stream = socket.create_connection(("127.0.0.1", self.proxy.operations_tcp), timeout=30)
        return ssl.create_default_context(cafile=self.proxy.certificate).wrap_socket(stream, server_hostname="localhost")

    def lines(self):
        labels = {"run": str(self.generation())}
        for name, op in (("soak_counted_total", "inc"), ("soak_set", "set"), ("soak_observed", "obs")):
            yield json.dumps({"name": name, "op": op, "value": 1, "labels": labels})

    def step(self):
        self.stream.sendall("".join(line + "\n" for line in self.lines()).encode())


class OperationsUnix(OperationsTls):
    """StatsD lines and JSON over the stream socket."""

    def connect(self):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(30)
        stream.connect(self.proxy.operations_unix)
        return stream

    def lines(self):
        yield from super().lines()
        yield f"soak.statsd:1|c|#run:{self.generation()}"


class Statsd(Client):
    """StatsD over UDP: counters, gauges, timers and sets."""

    def connect(self):
        stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.connect(("127.0.0.1", self.proxy.operations_udp))
        return stream

    def step(self):
        run = self.generation()
        kinds = ("udp.hits:1|c", "udp.level:5|g", "udp.wait:320|ms|@0.5", f"udp.guests:{self.steps}|s")
        self.stream.send("\n".join(f"{line}|#run:{run}" for line in kinds).encode())


class StatsdUnix(Statsd):
    """StatsD over a Unix datagram socket."""

    def connect(self):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stream.connect(self.proxy.statsd_unix)
        return stream


class Scrape(Client):
    """Scrapes in every format, and the lists."""

    secure = False
    FORMATS = (
        "text/plain;version=0.0.4",
        "application/openmetrics-text;version=1.0.0",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    )
    PATHS = ("/apps?format=json", "/apps", "/metrics?name[]=exporter_proxy_apps", "/apps?wide=1", "/-/ready")

    def connect(self):
        return connection(self.proxy, self.proxy.http, self.secure)

    def step(self):
        if self.steps % 4 == 0:
            path = self.PATHS[self.steps // 4 % len(self.PATHS)]
            request(self.stream, "GET", path)
            return
        accept = self.FORMATS[self.steps % len(self.FORMATS)]
        encoding = ("identity", "gzip")[self.steps // 3 % 2]
        answer, body = request(self.stream, "GET", "/metrics", None, {"Accept": accept, "Accept-Encoding": encoding})
        if answer.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "openmetrics" in answer.headers["Content-Type"] and not body.endswith(b"# EOF\n"):
            raise Failed(f"{accept}: no end")
        if b"exporter_proxy_build_info" not in body:
            raise Failed(f"{accept}: {len(body)} bytes without exporter_proxy_build_info")


class SecureScrape(Scrape):
    """Scrapes over TLS."""

    secure = True


class Http2(Client):
    """Scrapes with HTTP/2, by curl."""

    def connect(self):
        return contextlib.ExitStack()  # curl opens its own connections

    def step(self):
        scrape = f"https://localhost:{self.proxy.http[1]}/metrics"
        command = ["curl", "--http2", "--silent", "--show-error", "--fail", "--compressed", "--noproxy", "*"]
        command += ["--cacert", str(self.proxy.certificate), "-H", f"Authorization: Bearer {TOKEN}"]
        command += ["--output", "/dev/null", scrape, "--output", "/dev/null", scrape]
        ran = subprocess.run(command, capture_output=True, timeout=30)
        if ran.returncode != 0:
            raise Failed(f"curl: {ran.stderr.decode()}")


class Reload(Push):
    """Reloads with settings that come and go, and uses their sockets while they exist."""

    def step(self):
        has_extra = self.steps % 2 == 1
        self.proxy.configure(has_extra)
        _, report = request(self.stream, "POST", "/-/reload")
        if b"push.listen" not in report or b"restart" in report:
            raise Failed(f"a reload reports {report}")
        if has_extra:
            with contextlib.closing(connection(self.proxy, (self.proxy.extra_push, None), False)) as extra:
                request(extra, "PUT", f"/metrics/job/{self.name}", text(self.name, 0))
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as statsd:
                statsd.sendto(b"soak.extra:1|c", self.proxy.extra_statsd_unix)


class Idle(Client):
    """Connections that send nothing."""

    def connect(self):
        ports = (self.proxy.tcp, *self.proxy.http, *self.proxy.push, self.proxy.operations_tcp)
        made = contextlib.ExitStack()
        for port in ports:
            made.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        return made

    def step(self):
        pass


# One process for each list. An entry is a kind of client and its time between steps, in units of STEP.
PROCESSES = (
    ((Capnp, 1), (Capnp, 2), (Json, 1), (Json, 2), (Broken, 2), (Idle, 2)),
    ((Push, 1), (SecurePush, 1), (Aggregate, 1), (Values, 1), (Webhook, 2), (Stranger, 2), (Rejected, 5), (Reload, 10)),
    ((OperationsTls, 1), (OperationsUnix, 1), (Statsd, 1), (StatsdUnix, 1)),
    ((Scrape, 3), (SecureScrape, 3), (Http2, 20)),
)


def run_clients(proxy, kinds, churn, leak, stop, results):
    """Runs clients until told to stop; then sends how many steps each took, and the first problem."""
    done = {}

    def run(number, kind, every):
        client = kind(proxy, f"soak-{kind.__name__.lower()}-{number}", churn, leak)
        problem = None
        while not stop.wait(STEP * every * random.uniform(0.9, 1.1)):
            try:
                client.run_step()
            except (OSError, http.client.HTTPException, Failed) as error:
                problem = f"{kind.__name__}: {error!r}"
                break
        client.leave()
        previous = done.get(kind.__name__, (0, None))
        done[kind.__name__] = (previous[0] + client.steps, previous[1] or problem)
        if problem:
            stop.set()

    threads = [threading.Thread(target=run, args=(number, *kind)) for number, kind in enumerate(kinds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(done)


def run_target(port, certificate, lifetime, stop):
    """A target that leaves and comes back."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = text(f"target{port}", int(time.monotonic())).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    while not stop.is_set():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        stop.wait(random.uniform(0.5, 2) * lifetime)
        server.shutdown()
        serving.join()
        server.server_close()
        stop.wait(random.uniform(0.2, 0.6) * lifetime)
