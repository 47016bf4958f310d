"""Counters, gauges and histograms for scripts; exporter-proxy keeps the values.

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
`udp:HOST:PORT` for datagrams, as configured in `[operations]` of the proxy.
Requires Python 3.8 and nothing else.

`Operations` raises ValueError for an invalid address. No other call raises, so
a metric never fails a job: a message that cannot be sent, or whose value is not
a finite number, is logged and dropped, and the method returns False. A message
that was sent in part is not sent again, since it might count twice. Over a
stream the proxy reports rejected messages; the report is logged at the next
call, or by `close`.
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


# Longest path of a Unix socket, in bytes.
LONGEST_PATH = 107


class Operations:
    def __init__(self, address, timeout=1.0):
        """`timeout` limits one call, in seconds, except for resolving a host name.

        Raises ValueError if the address or the timeout is invalid. Does not
        connect yet."""
        self.kind, self.place = _parsed(address)
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"the timeout must be a number of seconds above 0, not {timeout!r}")
        self.timeout = timeout
        self.socket = None
        self.lock = threading.Lock()

    def counter(self, name, help="", /, **labels):
        return Series(self, name, help, labels, {})

    def gauge(self, name, help="", /, **labels):
        return Series(self, name, help, labels, {})

    def histogram(self, name, help="", /, **buckets):
        """`buckets` are keys of a message: bucket_custom, or buckets and
        bucket_width, or bucket_min and bucket_max, or bucket_factor."""
        return Series(self, name, help, {}, buckets)

    def send(self, *messages):
        """Sends messages, each a dict, in one write or datagram."""
        deadline = time.monotonic() + self.timeout
        try:
            lines = [json.dumps(it, allow_nan=False, default=_converted) for it in messages]
        except Exception as problem:
            log.warning("not sent, because it is not valid as JSON: %s", problem)
            return False
        data = ("\n".join(lines) + "\n").encode()
        if not self.lock.acquire(timeout=self.timeout):
            log.info("not sent: another thread is sending")
            return False
        try:
            # A proxy that has restarted has closed the connection: connect again.
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
            # The interruption may have come in the middle of a message.
            self._drop()
            raise
        finally:
            self.lock.release()

    def close(self):
        """Closes the connection, after the proxy has read everything."""
        deadline = time.monotonic() + self.timeout
        if not self.lock.acquire(timeout=self.timeout):
            log.info("not closed: another thread is sending")
            return
        try:
            if self.socket and self.socket.type == socket.SOCK_STREAM:
                self.socket.shutdown(socket.SHUT_WR)
                self.socket.settimeout(_left(deadline))
                while self._answers():
                    self.socket.settimeout(_left(deadline))
        except OSError as problem:
            log.info("not closed cleanly: %s", problem)
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
        # A datagram is sent whole or not at all.
        sent = 0
        while sent < len(data):
            try:
                self.socket.settimeout(_left(deadline))
                sent += self.socket.send(data[sent:])
            except OSError as problem:
                if sent:
                    raise SentInPart(f"sent in part: {problem}") from problem
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
    """A message was sent in part, and may have counted."""


def _left(deadline):
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _parsed(address):
    """The kind of an address, and its path or its (host, port)."""
    if not isinstance(address, str):
        raise ValueError(f"the address must be a string, not {address!r}")
    kind, _, place = address.partition(":")
    if kind not in ("unix", "unixgram", "tcp", "udp") or not place or "\0" in place:
        raise ValueError(f"the address must be unix:PATH, unixgram:PATH, tcp:HOST:PORT or udp:HOST:PORT, "
            f"not {address!r}")
    if kind in ("unix", "unixgram"):
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"this platform has no Unix sockets: {address!r}")
        # os.fsencode may raise ValueError too.
        if len(os.fsencode(place)) > LONGEST_PATH:
            raise ValueError(f"the path must have at most {LONGEST_PATH} bytes: {address!r}")
        return kind, place
    host, _, port = place.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        # Rejects empty labels, for example.
        host.encode("idna")
    except UnicodeError as problem:
        raise ValueError(f"invalid host {host!r} in {address!r}: {problem}") from None
    if not host:
        raise ValueError(f"the address needs a host and a port: {address!r}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"the port must be a number from 1 to 65535, not {port!r}: {address!r}")
    return kind, (host, int(port))


def _number(value):
    """A value that JSON can represent. Raises what `float` raises."""
    number = _converted(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return value if type(value) is int else number


def _converted(value):
    """A number of another type, such as Decimal, as a float. Strings are rejected."""
    if not hasattr(type(value), "__float__"):
        raise TypeError(f"not a number: {value!r}")
    return float(value)


class Series:
    """One series: a name and its labels."""

    def __init__(self, operations, name, help, labels, buckets):
        self.operations, self.name, self.help = operations, name, help
        self.own_labels, self.buckets = labels, buckets

    def labels(self, **labels):
        """The series with these labels in addition to the present ones."""
        labels = {**self.own_labels, **labels}
        return Series(self.operations, self.name, self.help, labels, self.buckets)

    def inc(self, value=1):
        """Adds to a counter."""
        return self._send("inc", value)

    def set(self, value):
        """Sets a gauge."""
        return self._send("set", value)

    def add(self, value):
        """Adds to a gauge; `value` may be negative."""
        return self._send("add", value)

    def observe(self, value):
        """Observes a value in a histogram."""
        return self._send("obs", value, **self.buckets)

    @contextmanager
    def time(self):
        """Observes the duration of a block in seconds."""
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
