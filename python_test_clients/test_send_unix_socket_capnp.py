#!/usr/bin/env python3
"""Sends sample metrics to the proxy's Unix socket, as Cap'n Proto messages."""

import socket
import sys

from proxy_client import arguments, find_socket, send, socket_places


def main():
    given = arguments(
        __doc__,
        "socket",
        f"path of the socket (default: the first that exists of {', '.join(socket_places())})",
        "python_unix_capnp",
    )
    path = given.socket or find_socket()
    if path is None:
        sys.exit(f"the proxy has no socket at any of: {', '.join(socket_places())}")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path)
            send(connection, path, given.app_name)
    except OSError as problem:
        sys.exit(f"cannot send to {path}: {problem}")


if __name__ == "__main__":
    main()
