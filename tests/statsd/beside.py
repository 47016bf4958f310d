#!/usr/bin/env python3
"""Sends the same StatsD lines to the proxy and to statsd_exporter, with the same mapping file, and
compares what they expose.

    tests/statsd/beside.py PROGRAM STATSD_EXPORTER [LINES]

Lines are generated with a fixed seed. Where the two differ on purpose, the names say why, and such
a difference must exist. Only the loopback and free ports are used.
"""

import contextlib
import itertools
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

# How long to wait for the servers to start and for the lines to arrive, in seconds.
PATIENCE = 60
SEED = 15

MAPPING = r"""
defaults:
  summary_options:
    quantiles: [{quantile: 0.5, error: 0.01}, {quantile: 0.9, error: 0.01}]
mappings:
- match: shop.*.orders.*
  name: shop_orders_total
  help: Orders.
  labels: {shop: $1, state: $2, kind: rule}
- match: shop.*.kept
  name: kept_total
  honor_labels: true
  labels: {shop: $1, all: "$0"}
- match: shop.*.time
  name: shop_seconds
  observer_type: histogram
  histogram_options: {buckets: [0.1, 0.15, 0.2]}
  labels: {shop: $1}
- match: native.fine
  name: native_fine
  observer_type: histogram
  histogram_options: {native_histogram_bucket_factor: 1.01, native_histogram_max_buckets: 40}
- match: native.coarse
  name: native_coarse
  observer_type: histogram
  histogram_options: {native_histogram_bucket_factor: 5}
- match: native.none
  name: native_none
  observer_type: histogram
  histogram_options: {native_histogram_bucket_factor: 1}
- match: shop.*.wait
  name: ${1}_wait_seconds
  scale: 2
- match: both.*
  name: both_total
  match_metric_type: counter
  labels: {what: $1}
- match: both.*
  name: both_now
  match_metric_type: gauge
  scale: 0.5
  labels: {what: $1}
- match: both.*
  name: both_seconds
  match_metric_type: observer
  labels: {what: $1}
- match: debug.*.*
  action: drop
  name: dropped
- match: '*.first.*'
  name: first_total
  labels: {one: $1, two: $2}
- match: x.first.y
  name: never_total
- match: 'web\.(\w+)-(\d+)\.(hits|misses)'
  match_type: regex
  name: web_${3}_total
  labels: {host: $1, number: $2, none: "$9", whole: "$0"}
- match: 'deep\.(?P<path>.*)\.end'
  match_type: regex
  name: deep_total
  labels: {path: "$path"}
- match: 'secret'
  match_type: regex
  action: drop
  name: dropped
"""

# Deliberate differences: the prefix of the families' names, and the reason.
REASONS = {
    "flag_": "a tag without a value is a label here, and ignored there",
    "set_": "sets are gauges here, and no metrics there",
    "third_": "a rate of 0.3 counts 3.33 times here, and 3 times there",
    "container_": "the container id is ignored here, and a label there",
    "packed_": "packed counters are added up here, and rejected there",
    "negative_": "a negative duration is rejected here, and taken there",
    "rate_": "a rate of 0 is rejected here, and ignored there",
    "spaced_": "blanks around a number are ignored here, and rejected there",
}

SHOPS = ["paris", "rome", "new-york", "oslo_2"]


def generated(rng):
    """A random line that both servers read alike."""
    shop, size = rng.choice(SHOPS), rng.choice(["big", "small", "x:y"])
    rate = rng.choice(["", "|@0.5", "|@0.25", "|@0.1"])
    millis = rng.randint(100, 199)
    tags = rng.choice(
        [
            (f"shop.{shop}.orders.new", f"|#size:{size},kind:tag"),
            (f"shop.{shop}.orders.old", "|#size:big"),
            (f"shop.{shop}.orders.new,size=big,kind=tag", ""),
            (f"shop.{shop}.orders.new#size=small", ""),
            (f"shop.{shop}[size=huge].orders.old", ""),
        ]
    )
    return rng.choice(
        [
            f"{tags[0]}:{rng.randint(0, 9)}|c{rate}{tags[1]}",
            f"shop.{shop}.orders.new:{rng.randint(0, 9)}|c{rate}",
            f"shop.{shop}.kept:1|c|#shop:tag",
            f"shop.{shop}.kept:2|c",
            f"shop.{shop}.time:{millis}|ms",
            f"shop.{shop}.time:{millis}|ms|@0.5",
            f"shop.{shop}.wait:{millis}|h",
            f"shop.{shop}.wait:{millis}:{millis}|d|@0.25",
            f"both.{rng.choice('ab')}:3|c",
            f"both.{rng.choice('ab')}:{rng.choice(['5', '+2', '-1.5', '0', '+0'])}|g",
            f"both.{rng.choice('ab')}:{millis}|ms",
            f"debug.{rng.randint(0, 99)}.x:1|c",
            f"{rng.choice('xy')}.first.{rng.choice('yz')}:1|c",
            f"web.front-{rng.randint(1, 5)}.{rng.choice(['hits', 'misses'])}:1|c",
            f"deep.{rng.choice(['a.b', 'c', 'd--e.f'])}.end:1|c",
            f"a.secret.{rng.randint(0, 9)}:1|c",
            f"plain.name-{rng.randint(0, 3)}--x.9y:1|c|#label.with-dots:v w",
            f"9plain/{rng.choice(['a', 'b'])}:1|g",
            f"many.values:1|c:2|c|@0.5:3|c",
            f"un.timed:{millis}|ms",
            f"native.fine:{1.5 ** rng.randint(-60, 60)}|h",
            f"native.{rng.choice(['coarse', 'none'])}:{rng.choice([0, 1, 2, millis])}|h|@0.5",
            "bad line",
            "bad.type:1|q",
            "bad.value:x|c",
            "down:-1|c",
            "two.styles,a=b:1|c|#c:d",
        ]
    )


DIFFERENT = [
    "flag.count:1|c|#alone,a:b",
    "set.users:ann|s",
    "third.timer:100|ms|@0.3",
    "container.count:1|c|c:ci-83",
    "packed.count:1:2|c",
    "negative.timer:-5|ms",
    "rate.count:1|c|@0",
    "spaced.count: 1|c",
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return answer.read().decode()


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """The fields of a message of protobuf: numbers, and varints, doubles or bytes."""
    at, found = 0, []
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        elif tag & 7 == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif tag & 7 == 2:
            length, at = varint(data, at)
            value = data[at : at + length]
            at += length
        else:
            sys.exit(f"a field of wire type {tag & 7}")
        found.append((tag >> 3, value))
    return found


def zigzag(value):
    return value >> 1 ^ -(value & 1)


def native_side(message, spans, deltas):
    """The counts of the buckets of one side, by number."""
    numbers, following = [], 0
    for number, span in message:
        if number == spans:
            span = dict(fields(span))
            first = following + zigzag(span.get(1, 0))
            following = first + span.get(2, 0)
            numbers.extend(range(first, following))
    changes = []
    for number, value in message:
        if number != deltas:
            continue
        if isinstance(value, int):
            changes.append(zigzag(value))
            continue
        at = 0
        while at < len(value):
            change, at = varint(value, at)
            changes.append(zigzag(change))
    if len(changes) != len(numbers):
        sys.exit("spans and counts of native buckets differ")
    counts = itertools.accumulate(changes)
    return {number: count for number, count in zip(numbers, counts) if count}


def natives(port):
    """The native histograms by series: schema, zero bucket and buckets."""
    accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
    found, at = {}, 0
    while at < len(body):
        length, at = varint(body, at)
        family = fields(body[at : at + length])
        at += length
        name = next(value.decode() for number, value in family if number == 1)
        for metric in (fields(value) for number, value in family if number == 4):
            labels = [dict(fields(value)) for number, value in metric if number == 1]
            labels = {it[1].decode(): it.get(2, b"").decode() for it in labels}
            for histogram in (fields(value) for number, value in metric if number == 7):
                single = dict(histogram)
                if 5 in single and not name.startswith(("exporter_proxy_", "go_", "promhttp_", "statsd_")):
                    labels = tuple(sorted((key, value) for key, value in labels.items() if value))
                    found[name, labels] = {
                        "count": single.get(1, 0),
                        "classic": [dict(fields(value)) for number, value in histogram if number == 3],
                        "schema": zigzag(single[5]),
                        "zero": (single.get(6), single.get(7, 0)),
                        "negative": native_side(histogram, 9, 10),
                        "positive": native_side(histogram, 12, 13),
                    }
    return found


def has_ended(process):
    return process.poll() is not None


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    sys.exit(f"{what} does not happen within {PATIENCE} s")


def samples(text):
    """The samples by series, and the types by family, without those of the server itself."""
    own = re.compile(r"(exporter_proxy|statsd_exporter|statsd_metric|go|process|promhttp)_")
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if not own.match(name):
                types[name] = kind
        if not line or line.startswith("#") or own.match(line):
            continue
        series, value = line.rsplit(" ", 1)
        name, _, labels = series.partition("{")
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
        # statsd_exporter also exposes labels without a value.
        pairs = sorted((key, text) for key, text in pairs if text)
        values[name, tuple(pairs)] = float(value)
    return values, types


def near(series, ours, theirs):
    if any(key == "quantile" for key, _ in series[1]):
        # statsd_exporter's is within 1 % by rank of 100 consecutive values, the proxy's within 1 % of the value.
        return abs(ours - theirs) <= 0.035 * abs(theirs)
    return abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs))


def send(port, lines):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stream:
        stream.sendall("".join(line + "\n" for line in lines).encode())
        stream.shutdown(socket.SHUT_WR)
        # The proxy answers rejected lines.
        with contextlib.suppress(OSError):
            while stream.recv(65536):
                pass


def expose(program, exporter, lines, directory):
    """The output of each server after the lines."""
    mapping = pathlib.Path(directory, "mapping.yml")
    mapping.write_text(MAPPING)
    ours, ours_tcp, theirs, theirs_tcp = (free_port() for _ in range(4))
    config = pathlib.Path(directory, "config.toml")
    config.write_text(
        f"""
[exporter]
scrape_expose_endpoint = "127.0.0.1:{ours}"
[push]
listen = ""
[receiver]
receive_on_tcp_socket = false
receive_on_unix_socket = false
[storage]
path = ""
[operations]
tcp = "127.0.0.1:{ours_tcp}"
statsd_mapping = "{mapping}"
"""
    )
    commands = [
        [program, "--config", str(config)],
        [
            exporter,
            f"--web.listen-address=127.0.0.1:{theirs}",
            "--statsd.listen-udp=",
            f"--statsd.listen-tcp=127.0.0.1:{theirs_tcp}",
            f"--statsd.mapping-config={mapping}",
            "--log.level=error",
        ],
    ]
    running = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for process, port in zip(running, (ours, theirs)):
            wait_for("the start", lambda port=port, process=process: has_ended(process) or scraped(port))
            if has_ended(process):
                sys.exit(f"{process.args[0]} ended with {process.returncode}")
        for port in (ours_tcp, theirs_tcp):
            send(port, lines)
        last = re.compile(r"^last_line\S* 1$", re.M)
        for port in (ours, theirs):
            wait_for("the last line", lambda port=port: last.search(scraped(port)))
        return [samples(scraped(port)) + (natives(port),) for port in (ours, theirs)]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def main():
    program, exporter = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    rng = random.Random(SEED)
    lines = [generated(rng) for _ in range(count)] + DIFFERENT + ["last.line:1|c"]
    with tempfile.TemporaryDirectory() as directory:
        both = expose(program, exporter, lines, directory)
    (ours, our_types, our_natives), (theirs, their_types, their_natives) = both
    reasons = {beginning: [] for beginning in REASONS}
    unexpected = []
    for series in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(series), theirs.get(series)
        if here is not None and there is not None and near(series, here, there):
            continue
        beginning = next((it for it in REASONS if series[0].startswith(it)), None)
        shown = f"{series[0]}{dict(series[1])}: here {here}, there {there}"
        (reasons[beginning] if beginning else unexpected).append(shown)
    for family in sorted(our_types.keys() & their_types.keys()):
        if our_types[family] != their_types[family]:
            unexpected.append(f"{family}: here a {our_types[family]}, there a {their_types[family]}")
    for series in sorted(our_natives.keys() | their_natives.keys()):
        here, there = our_natives.get(series), their_natives.get(series)
        if here != there:
            unexpected.append(f"native {series}: here {here}, there {there}")
    for beginning, found in reasons.items():
        print(f"{REASONS[beginning]}: {len(found)} series")
        if not found:
            unexpected.append(f"no difference of {beginning}: {REASONS[beginning]}")
    same = len(ours.keys() & theirs.keys())
    print(f"{len(our_natives)} native histograms, {len(their_natives)} there")
    if not our_natives:
        unexpected.append("no native histograms")
    print(f"{len(lines)} lines; {len(ours)} series here, {len(theirs)} there, {same} of both")
    for line in unexpected:
        print(f"DIFFERENT {line}")
    if same < 100:
        sys.exit("too few series to compare")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
