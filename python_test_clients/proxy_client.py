"""Code shared by the sample clients: the message, its sample text and the path of the socket."""

import argparse
import os
import re
import stat
import struct
import sys
from pathlib import Path

try:
    import capnp
except ImportError:
    capnp = None

SCHEMA = Path(__file__).resolve().parent.parent / "schema" / "metric_data.capnp"
SOCKET_NAME = "exporter-proxy-receiver.sock"


def sample_text(app_name):
    """Exposition text whose metric name contains the app's name, so that apps do not share a metric."""
    metric = re.sub("[^a-zA-Z0-9_]", "_", app_name) + "_jobs_total"
    return (
        f"# HELP {metric} Jobs done, by outcome.\n"
        f"# TYPE {metric} counter\n"
        f'{metric}{{outcome="done"}} 41\n'
        f'{metric}{{outcome="failed"}} 1\n'
    )


def with_pycapnp(app_name, text):
    schema = capnp.load(str(SCHEMA))
    return schema.InboundMetrics.new_message(appName=app_name, data=text).to_bytes()


def by_hand(app_name, text):
    """The same message without pycapnp, as one segment: little-endian, in words of 8 bytes."""
    texts = [part.encode() + b"\0" for part in (app_name, text)]
    padded = [part.ljust(-(-len(part) // 8) * 8, b"\0") for part in texts]
    offsets = [1, len(padded[0]) // 8]  # in words, from the end of each pointer
    root = struct.pack("<IHH", 0, 0, 2)  # a struct with no data and two pointers
    pointers = b"".join(
        # a list (1) of bytes (2); the length includes the final NUL
        struct.pack("<II", offset << 2 | 1, len(part) << 3 | 2)
        for offset, part in zip(offsets, texts)
    )
    segment = root + pointers + b"".join(padded)
    return struct.pack("<II", 0, len(segment) // 8) + segment  # 0 means one segment


def encoder():
    """A function that encodes an app name and a text, and its description."""
    if capnp is not None:
        return with_pycapnp, "pycapnp"
    print("pycapnp is not installed: using the built-in encoder", file=sys.stderr)
    return by_hand, "the built-in encoder"


def socket_places():
    """The paths that the proxy tries with `receiver_unix_socket = "auto"`, in order."""
    directories = ["/var/run", os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR", "/tmp")]
    return [os.path.join(directory, SOCKET_NAME) for directory in directories if directory]


def find_socket():
    """The first of the default paths that is a socket, or `None`."""
    for place in socket_places():
        try:
            if stat.S_ISSOCK(os.stat(place).st_mode):
                return place
        except OSError:
            continue
    return None


def arguments(description, place_name, place_help, default_app):
    """Parses the command line: an address and app names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(place_name, nargs="?", help=place_help)
    parser.add_argument(
        "app_name",
        nargs="*",
        default=[default_app],
        help=f"name of the app (default: {default_app}); one message is sent for each name",
    )
    return parser.parse_args()


def send(connection, place, app_names):
    """Sends one message for each app name over the connection."""
    encode, name = encoder()
    for app_name in app_names:
        connection.sendall(encode(app_name, sample_text(app_name)))
    print(f"sent {', '.join(app_names)} to {place}, encoded with {name}")
