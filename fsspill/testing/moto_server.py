"""moto's S3 server as a program: ``python -m fsspill.testing.moto_server``.

It prints its port and serves until standard input ends.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Serve S3 on a free port of the loopback interface."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201 (the parent reads it)
    sys.stdin.read()


if __name__ == "__main__":
    main()
