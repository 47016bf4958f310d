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

An address that cannot be one raises ValueError at once, in `Operations`. From
then on nothing raises: what cannot be sent is dropped, since a metric is not
worth a failed job, and so is a value that is no finite number. The methods log
that and return False. A message that was sent in part is not sent again, as it
might count twice. Over a stream the proxy says what it refuses; that is logged,
at the latest by `close`.
"""

import json
import logging
import math
import os
import socket
import threading
import time
from contextlib import contextmanager

log = logging.getLogger("operations")


# Bytes of the path of a Unix socket.
LONGEST_PATH = 107


class Operations:
    def __init__(self, address, timeout=1.0):
        """`timeout` bounds what one call may take, in seconds, but for looking
        up the name of a host.

        Raises ValueError where the address or the timeout cannot be one; whether
        somebody listens there is not tried."""
        self.kind, self.place = _parsed(address)
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"the timeout must be seconds, more than 0, not {timeout!r}")
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
        deadline = time.monotonic() + self.timeout
        try:
            lines = [json.dumps(it, allow_nan=False, default=_converted) for it in messages]
        except Exception as problem:
            log.warning("not sent, since it is no JSON: %s", problem)
            return False
        data = ("\n".join(lines) + "\n").encode()
        if not self.lock.acquire(timeout=self.timeout):
            log.info("not sent: another thread sends")
            return False
        try:
            # A proxy that was started again has closed the connection.
            for _ in range(2 if self.socket else 1):
                try:
                    self._send(data, deadline)
                    return True
                except OSError as problem:
                    log.info("not sent: %s", problem)
                    self._drop()
                    if isinstance(problem, SentInPart):
                        break
            return False
        except BaseException:
            # It was interrupted, maybe amid a message.
            self._drop()
            raise
        finally:
            self.lock.release()

    def close(self):
        """Ends a stream, and waits until the proxy has taken all of it."""
        deadline = time.monotonic() + self.timeout
        if not self.lock.acquire(timeout=self.timeout):
            log.info("not closed: another thread sends")
            return
        try:
            if self.socket and self.socket.type == socket.SOCK_STREAM:
                self.socket.shutdown(socket.SHUT_WR)
                self.socket.settimeout(_left(deadline))
                while self._answers():
                    self.socket.settimeout(_left(deadline))
        except OSError as problem:
            log.info("not ended: %s", problem)
        finally:
            self._drop()
            self.lock.release()

    def _send(self, data, deadline):
        if self.socket is None:
            self.socket = self._connect(deadline)
        elif self.socket.type == socket.SOCK_STREAM:
            self.socket.settimeout(0)
            try:
                if not self._answers():
                    raise ConnectionResetError("the proxy has closed the connection")
            except BlockingIOError:
                pass
        # A datagram goes at once or not at all.
        sent = 0
        while sent < len(data):
            try:
                self.socket.settimeout(_left(deadline))
                sent += self.socket.send(data[sent:])
            except OSError as problem:
                if sent:
                    raise SentInPart(f"in part only: {problem}") from problem
                raise

    def _connect(self, deadline):
        stream = self.kind in ("unix", "tcp")
        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        family, place = getattr(socket, "AF_UNIX", None), self.place
        if self.kind in ("tcp", "udp"):
            found = socket.getaddrinfo(*self.place, type=kind)
            family, _, _, _, place = found[0]
        connection = socket.socket(family, kind)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(place)
        except BaseException:
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


class SentInPart(OSError):
    """What was sent before may have counted already."""


def _left(deadline):
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _parsed(address):
    """The kind of an address, and its path or its host and port."""
    if not isinstance(address, str):
        raise ValueError(f"an address is a text, not {address!r}")
    kind, _, place = address.partition(":")
    if kind not in ("unix", "unixgram", "tcp", "udp") or not place or "\0" in place:
        raise ValueError(f"not unix:, unixgram:, tcp: or udp: and a place: {address!r}")
    if kind in ("unix", "unixgram"):
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"there are no Unix sockets here: {address!r}")
        # This may raise ValueError, too.
        if len(os.fsencode(place)) > LONGEST_PATH:
            raise ValueError(f"the path has more than {LONGEST_PATH} bytes: {address!r}")
        return kind, place
    host, _, port = place.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        # Empty labels, for one, are no names of hosts.
        host.encode("idna")
    except UnicodeError as problem:
        raise ValueError(f"no host: {host!r} in {address!r}: {problem}") from None
    if not host:
        raise ValueError(f"needs a host and a port: {address!r}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"a port is a number from 1 to 65535, not {port!r}: {address!r}")
    return kind, (host, int(port))


def _number(value):
    """A value as JSON can have it. Raises what `float` does."""
    number = _converted(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return value if type(value) is int else number


def _converted(value):
    """Numbers of other sorts, such as Decimal. A text is none."""
    if not hasattr(type(value), "__float__"):
        raise TypeError(f"not a number: {value!r}")
    return float(value)


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
        try:
            value = _number(value)
        except Exception as problem:
            log.warning("not sent: %s of %r by %r: %s", op, self.name, value, problem)
            return False
        labels = {name: str(value) for name, value in self.own_labels.items()}
        message = {"name": self.name, "op": op, "value": value, "labels": labels}
        if self.help:
            message["help"] = self.help
        return self.operations.send({**message, **more})
