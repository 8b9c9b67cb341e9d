"""An S3 server in a child process, behind a link of given latency and bandwidth."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from tests.benchmarks.buckets import Buckets
from tests.benchmarks.http_server import Link, Request, Response, serve

__all__ = ["LinkServer", "Stats"]

_ROOT = Path(__file__).parents[2]

# glibc would return the memory of every large body to the system and allocate it again, page
# fault by page fault: half of the CPU time that the server needs for an upload.
_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True)
class Stats:
    """The traffic of a server.

    Attributes
    ----------
    requests : Counter
        Number of requests, by S3's name of the operation.
    bytes_received, bytes_sent : int
        Bytes of bodies.
    """

    requests: Counter[str] = field(default_factory=Counter)
    bytes_received: int = 0
    bytes_sent: int = 0

    def since(self, earlier: Stats) -> Stats:
        """Return the traffic after `earlier`."""
        return Stats(
            self.requests - earlier.requests,
            self.bytes_received - earlier.bytes_received,
            self.bytes_sent - earlier.bytes_sent,
        )


class LinkServer(AbstractContextManager["LinkServer"]):
    """An S3 server on a free port of the loopback interface. A context manager.

    Parameters
    ----------
    latency : float
        Seconds from the end of a request to the start of its response.
    bandwidth : float or None
        Bytes per second, connection and direction; 0 or None for unlimited.

    Attributes
    ----------
    endpoint_url : str
        Its address.
    environment : dict
        Environment variables of a process that uses it: endpoint and credentials, which are not
        checked.

    Notes
    -----
    The server runs in a child process and ends with this process, even if that is killed: the
    child waits for the end of a pipe. It keeps all objects in memory.
    """

    def __init__(self, latency: float = 0.03, bandwidth: float | None = 80e6) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.link_server"],
            cwd=_ROOT,
            env=os.environ | _KEEP_FREED_MEMORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Otherwise Ctrl-C in this terminal would reach the child before the pipe ends.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.close()
            raise RuntimeError("the server did not start: its output above names the cause")
        self._port = int(port)
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        self.set_link(latency, bandwidth)

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        self._call("PUT", f"/{name}")

    def set_link(self, latency: float, bandwidth: float | None) -> None:
        """Change the link for subsequent requests."""
        self._call("POST", f"/_link?latency={latency}&bandwidth={bandwidth or 0}")

    def stats(self) -> Stats:
        """Return the traffic since the start or the last reset."""
        answer = json.loads(self._call("GET", "/_stats"))
        requests = Counter(answer["requests"])
        return Stats(requests, answer["bytes_received"], answer["bytes_sent"])

    def reset(self) -> None:
        """Remove all objects and counts; buckets remain."""
        self._call("POST", "/_reset")

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, method: str, target: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request(method, target)
            return connection.getresponse().read()
        finally:
            connection.close()


class _Server:
    """The handler of the child process: requests of S3 and control requests of its parent.

    No bucket name begins with an underscore, so the two cannot be confused.
    """

    def __init__(self) -> None:
        self.link = Link()
        self._buckets = Buckets()

    def handle(self, request: Request) -> Response:
        if not request.path.startswith("/_"):
            return self._buckets.handle(request)
        if request.path == "/_link":
            self.link.latency = float(request.query["latency"])
            self.link.bandwidth = float(request.query["bandwidth"])
        if request.path == "/_reset":
            self._buckets.clear()
            self.link.bytes_received = self.link.bytes_sent = 0
        stats = {
            "requests": self._buckets.requests,
            "bytes_received": self.link.bytes_received,
            "bytes_sent": self.link.bytes_sent,
        }
        return Response(segments=[json.dumps(stats).encode()], control=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input ends; print the port first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _Server()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 (the parent reads it)
        asyncio.run(serve(listener, server.link, server.handle))


if __name__ == "__main__":
    main()
