#!/usr/bin/env python3
"""Sends sample metrics to the proxy's TCP socket, as Cap'n Proto messages."""

import socket
import sys

from proxy_client import arguments, send

DEFAULT_ADDRESS = "127.0.0.1:6554"


def main():
    given = arguments(
        __doc__, "address", f"HOST:PORT (default: {DEFAULT_ADDRESS})", "python_tcp_capnp"
    )
    address = given.address or DEFAULT_ADDRESS
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as connection:
            send(connection, address, given.app_name)
    except (OSError, ValueError) as problem:
        sys.exit(f"cannot send to {address}: {problem}")


if __name__ == "__main__":
    main()
