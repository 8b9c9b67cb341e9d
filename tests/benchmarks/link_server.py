"""An S3 server in a process of its own, behind a link of known latency and bandwidth."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType

from tests.benchmarks.buckets import Buckets
from tests.benchmarks.wire import Request, Response, Wire, serve

__all__ = ["LinkServer", "Stats"]

_ROOT = Path(__file__).parents[2]

# glibc would hand the memory of every large body back to the system and take it anew, page
# fault by page fault: half of the CPU that the server needs for an upload.
_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True)
class Stats:
    """What a server has seen.

    Attributes
    ----------
    requests : Counter
        How many, by S3's name of the operation.
    bytes_received, bytes_sent : int
        In bodies.
    """

    requests: Counter[str] = field(default_factory=Counter)
    bytes_received: int = 0
    bytes_sent: int = 0

    def since(self, earlier: Stats) -> Stats:
        """Return what has come on top of `earlier`."""
        return Stats(
            self.requests - earlier.requests,
            self.bytes_received - earlier.bytes_received,
            self.bytes_sent - earlier.bytes_sent,
        )


class LinkServer:
    """An S3 server on a free port of the loopback interface. A context manager.

    Parameters
    ----------
    latency : float
        Seconds from the end of a request to the start of its response.
    bandwidth : float or None
        Bytes per second and connection, each way; 0 or None for as many as there can be.

    Attributes
    ----------
    endpoint_url : str
        Where it listens.
    environment : dict
        What a process needs in its environment to use it: endpoint and credentials. Those are
        not checked.

    Notes
    -----
    The server lives in a child process and ends when this one does, however that ends: the
    child waits for the end of a pipe. All that it stores is in its memory.
    """

    def __init__(self, latency: float = 0.03, bandwidth: float | None = 80e6) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.link_server"],
            cwd=_ROOT,
            env=os.environ | _KEEP_FREED_MEMORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Away from this terminal, whose Ctrl-C would reach the child before the pipe ends.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.close()
            raise RuntimeError("the server did not start: its output above says why")
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
        """Change the link, for requests to come."""
        self._call("POST", f"/_link?latency={latency}&bandwidth={bandwidth or 0}")

    def stats(self) -> Stats:
        """Return what came since the start or the last reset."""
        answer = json.loads(self._call("GET", "/_stats"))
        requests = Counter(answer["requests"])
        return Stats(requests, answer["bytes_received"], answer["bytes_sent"])

    def reset(self) -> None:
        """Forget all objects and counts; buckets stay."""
        self._call("POST", "/_reset")

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> LinkServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: str, target: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request(method, target)
            return connection.getresponse().read()
        finally:
            connection.close()


class _Server:
    """What the child process answers: S3's requests, and those of its parent.

    No name of a bucket begins with an underscore, so the two cannot be confused.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        self._buckets = Buckets()

    def handle(self, request: Request) -> Response:
        if not request.path.startswith("/_"):
            return self._buckets.handle(request)
        if request.path == "/_link":
            self.wire.latency = float(request.query["latency"])
            self.wire.bandwidth = float(request.query["bandwidth"])
        if request.path == "/_reset":
            self._buckets.clear()
            self.wire.bytes_received = self.wire.bytes_sent = 0
        stats = {
            "requests": self._buckets.requests,
            "bytes_received": self.wire.bytes_received,
            "bytes_sent": self.wire.bytes_sent,
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
        asyncio.run(serve(listener, server.wire, server.handle))


if __name__ == "__main__":
    main()
