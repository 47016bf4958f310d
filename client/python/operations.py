"""Counters, gauges and histograms for scripts, which keep nothing themselves.

    from operations import Operations

    metrics = Operations("unix:/run/exporter-proxy-operations.sock")
    jobs = metrics.counter("jobs_total", "Jobs done.", queue="fast")
    jobs.inc()
    waiting = metrics.gauge("jobs_waiting", "Jobs that wait.")
    waiting.set(7)
    waiting.add(-1)
    seconds = metrics.histogram("job_seconds", "Time of a job.", bucket_custom=[0.1, 1, 10])
    seconds.observe(0.25)
    with seconds.labels(queue="slow").time():
        ...
    metrics.close()

The address is `unix:PATH` or `tcp:HOST:PORT` for a stream, `unixgram:PATH` or
`udp:HOST:PORT` for datagrams, as in the proxy's `[operations]`. Needs Python 3.8
and nothing else.

What cannot be sent is dropped: a metric is not worth a failed job. The methods
return False then. Over a stream the proxy says what it refuses; that is logged,
at the latest by `close`.
"""

import json
import logging
import socket
import threading
import time
from contextlib import contextmanager

log = logging.getLogger("operations")


class Operations:
    def __init__(self, address, timeout=1.0):
        """`timeout` bounds what one call may take, in seconds."""
        self.kind, _, self.place = address.partition(":")
        if self.kind not in ("unix", "unixgram", "tcp", "udp") or not self.place:
            raise ValueError(f"not unix:, unixgram:, tcp: or udp: and a place: {address!r}")
        self.timeout = timeout
        self.socket = None
        self.lock = threading.Lock()

    def counter(self, name, help="", /, **labels):
        return Series(self, name, help, labels, {})

    def gauge(self, name, help="", /, **labels):
        return Series(self, name, help, labels, {})

    def histogram(self, name, help="", /, **buckets):
        """`buckets` are as in a message: bucket_custom, or buckets and
        bucket_width, or bucket_min and bucket_max, or bucket_factor."""
        return Series(self, name, help, {}, buckets)

    def send(self, *messages):
        """Sends messages, which are dicts, in one write or datagram."""
        text = "\n".join(json.dumps(message) for message in messages) + "\n"
        with self.lock:
            # A proxy that was started again has closed the connection.
            for _ in range(2 if self.socket else 1):
                try:
                    self._send(text.encode())
                    return True
                except OSError as problem:
                    log.info("not sent: %s", problem)
                    self._drop()
        return False

    def close(self):
        """Ends a stream, and waits until the proxy has taken all of it."""
        with self.lock:
            if self.socket and self.socket.type == socket.SOCK_STREAM:
                try:
                    self.socket.shutdown(socket.SHUT_WR)
                    self.socket.settimeout(self.timeout)
                    while self._answers():
                        pass
                except OSError as problem:
                    log.info("not ended: %s", problem)
            self._drop()

    def _send(self, data):
        if self.socket is None:
            self.socket = self._connect()
        elif self.socket.type == socket.SOCK_STREAM:
            self.socket.settimeout(0)
            try:
                if not self._answers():
                    raise ConnectionResetError("the proxy has closed the connection")
            except BlockingIOError:
                pass
        self.socket.settimeout(self.timeout)
        # A datagram goes at once or not at all.
        self.socket.sendall(data)

    def _connect(self):
        stream = self.kind in ("unix", "tcp")
        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        family, place = getattr(socket, "AF_UNIX", None), self.place
        if self.kind in ("tcp", "udp"):
            host, _, port = self.place.rpartition(":")
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)
            family, _, _, _, place = found[0]
        connection = socket.socket(family, kind)
        connection.settimeout(self.timeout)
        try:
            connection.connect(place)
        except OSError:
            connection.close()
            raise
        return connection

    def _answers(self):
        answer = self.socket.recv(65536)
        for line in answer.decode(errors="replace").splitlines():
            log.warning("refused: %s", line)
        return answer

    def _drop(self):
        if self.socket:
            self.socket.close()
            self.socket = None


class Series:
    """One series: a name with its labels."""

    def __init__(self, operations, name, help, labels, buckets):
        self.operations, self.name, self.help = operations, name, help
        self.own_labels, self.buckets = labels, buckets

    def labels(self, **labels):
        """The series with these labels, and those that were given before."""
        labels = {**self.own_labels, **labels}
        return Series(self.operations, self.name, self.help, labels, self.buckets)

    def inc(self, value=1):
        """Adds to a counter."""
        return self._send("inc", value)

    def set(self, value):
        """Sets a gauge."""
        return self._send("set", value)

    def add(self, value):
        """Adds to a gauge, or takes away."""
        return self._send("add", value)

    def observe(self, value):
        """Adds a value to a histogram."""
        return self._send("obs", value, **self.buckets)

    @contextmanager
    def time(self):
        """Observes how many seconds a block takes."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.observe(time.monotonic() - begun)

    def remove(self):
        """Deletes the series."""
        return self._send("del", 0)

    def _send(self, op, value, **more):
        labels = {name: str(value) for name, value in self.own_labels.items()}
        message = {"name": self.name, "op": op, "value": value, "labels": labels}
        if self.help:
            message["help"] = self.help
        return self.operations.send({**message, **more})
