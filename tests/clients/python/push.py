"""Pushes metrics as a Python job does.

push.py ADDRESS push|add|delete METRICS CODING JOB [NAME=VALUE ...]

METRICS is `batch`, `rows` or `wrong`, CODING is `plain` or `gzip`. A grouping
of `ip` stands for the client library's instance_ip_grouping_key(). GATEWAY_USER and
GATEWAY_PASSWORD are for basic authentication, as the library's documentation does it.
"""

import os
import sys

# Without *_created, which the other clients do not push.
os.environ["PROMETHEUS_DISABLE_CREATED_SERIES"] = "true"

from prometheus_client import (  # noqa: E402
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    delete_from_gateway,
    instance_ip_grouping_key,
    push_to_gateway,
    pushadd_to_gateway,
)
from prometheus_client.exposition import basic_auth_handler, default_handler  # noqa: E402


def batch(registry):
    jobs = Counter("batch_jobs_total", "Jobs done.", ["outcome"], registry=registry)
    jobs.labels("done").inc(41)
    jobs.labels("failed").inc(1)
    last = Gauge("batch_last_success_seconds", "Last success.", registry=registry)
    last.set(1700000000)
    duration = Histogram(
        "batch_duration_seconds", "Time taken.", buckets=[0.5, 1, 5], registry=registry
    )
    for seconds in [0.5, 2, 10]:
        duration.observe(seconds)
    size = Summary("batch_size_bytes", "Size of a job.", registry=registry)
    for size_bytes in [100, 300]:
        size.observe(size_bytes)


def rows(registry):
    gauge = Gauge("batch_rows", 'Rows, "as\\they"\nare.', ["table"], registry=registry)
    gauge.labels('ü "quoted" \\ and\na line').set(7.25)


def wrong(registry):
    gauge = Gauge("batch_jobs_total", "A gauge by a counter's name.", registry=registry)
    gauge.set(1)


def handler(url, method, timeout, headers, data):
    user = os.environ.get("GATEWAY_USER")
    if user is None:
        return default_handler(url, method, timeout, headers, data)
    password = os.environ["GATEWAY_PASSWORD"]
    return basic_auth_handler(url, method, timeout, headers, data, user, password)


def main():
    address, verb, metrics, coding, job, *pairs = sys.argv[1:]
    key = {}
    for pair in pairs:
        if pair == "ip":
            key.update(instance_ip_grouping_key())
        else:
            name, value = pair.split("=", 1)
            key[name] = value
    if verb == "delete":
        delete_from_gateway(address, job=job, grouping_key=key, handler=handler)
        return
    registry = CollectorRegistry()
    {"batch": batch, "rows": rows, "wrong": wrong}[metrics](registry)
    push = {"push": push_to_gateway, "add": pushadd_to_gateway}[verb]
    push(
        address,
        job=job,
        registry=registry,
        grouping_key=key,
        handler=handler,
        compression={"plain": None, "gzip": "gzip"}[coding],
    )


main()
