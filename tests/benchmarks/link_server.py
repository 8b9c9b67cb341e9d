"""An S3 server in a child process, behind a link of given latency and bandwidth."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

from tests.benchmarks.buckets import Buckets
from tests.benchmarks.http_server import Link, Request, Response, serve
from tests.certificates import Certificate, make_certificate

__all__ = ["TAIL", "LinkServer", "Stats"]

TAIL = {"sigma": 1.153, "lost": 0.001}
"""Slow answers for `LinkServer.set_link`: with a median of 30 ms one in twenty takes more than 200
ms, and one in a thousand never comes."""

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
        Number of requests, by S3's name of the operation; "SlowDown" for those that were refused as
        too many.
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
    tls : bool
        Speak https, with a certificate by an authority of its own.

    Attributes
    ----------
    endpoint_url : str
        Its address.
    environment : dict
        Environment variables of a process that uses it: endpoint, trusted certificates and
        credentials, which are not checked.

    Notes
    -----
    The server runs in a child process and ends with this process, even if that is killed: the
    child waits for the end of a pipe. It keeps all objects in memory.
    """

    def __init__(
        self, latency: float = 0.03, bandwidth: float | None = 80e6, *, tls: bool = False
    ) -> None:
        self._certificates = Path(tempfile.mkdtemp()) if tls else None
        certificate = make_certificate(self._certificates) if self._certificates else None
        files = [str(certificate.certificate), str(certificate.key)] if certificate else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.link_server", *files],
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
        self._context = certificate and ssl.create_default_context(cafile=certificate.bundle)
        self.endpoint_url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            **({"AWS_CA_BUNDLE": str(certificate.bundle)} if certificate else {}),
        }
        self.set_link(latency, bandwidth)

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        self._call("PUT", f"/{name}")

    def set_link(
        self,
        latency: float,
        bandwidth: float | None,
        *,
        sigma: float = 0.0,
        lost: float = 0.0,
        requests_per_second: float = 0.0,
    ) -> None:
        """Change the link for subsequent requests.

        Parameters
        ----------
        latency, bandwidth
            As those of this class.
        sigma, lost : float
            Spread of the latency, and share of the requests without an answer, as those of `Link`;
            see `TAIL`.
        requests_per_second : float
            Requests that are answered; those above that are refused with 503 SlowDown. 0 for all.
        """
        values = {
            "latency": latency,
            "bandwidth": bandwidth or 0,
            "sigma": sigma,
            "lost": lost,
            "requests_per_second": requests_per_second,
        }
        self._call("POST", f"/_link?{urlencode(values)}")

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
        if self._certificates:
            shutil.rmtree(self._certificates, ignore_errors=True)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, method: str, target: str) -> bytes:
        connection = (
            HTTPSConnection("127.0.0.1", self._port, context=self._context)
            if self._context
            else HTTPConnection("127.0.0.1", self._port)
        )
        try:
            connection.request(method, target)
            return connection.getresponse().read()
        finally:
            connection.close()


class _Rate:
    """A limit of requests per second, with room for those of a tenth of a second at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._room = rate / 10
        self._at = time.monotonic()

    def admits(self) -> bool:
        """Return True if one more request is answered now, and count it."""
        now = time.monotonic()
        self._room = min(self._rate / 10, self._room + (now - self._at) * self._rate)
        self._at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


class _Server:
    """The handler of the child process: requests of S3 and control requests of its parent.

    No bucket name begins with an underscore, so the two cannot be confused.
    """

    def __init__(self) -> None:
        self.link = Link()
        self._rate: _Rate | None = None
        self._buckets = Buckets()

    def handle(self, request: Request) -> Response:
        if not request.path.startswith("/_"):
            if self._rate and not self._rate.admits():
                self._buckets.requests["SlowDown"] += 1
                return _SLOW_DOWN
            return self._buckets.handle(request)
        if request.path == "/_link":
            values = {name: float(value) for name, value in request.query.items()}
            rate = values.pop("requests_per_second")
            self._rate = _Rate(rate) if rate else None
            for name, value in values.items():
                setattr(self.link, name, value)
        if request.path == "/_reset":
            self._buckets.clear()
            self.link.bytes_received = self.link.bytes_sent = 0
        stats = {
            "requests": self._buckets.requests,
            "bytes_received": self.link.bytes_received,
            "bytes_sent": self.link.bytes_sent,
        }
        return Response(segments=[json.dumps(stats).encode()], control=True)


_SLOW_DOWN = Response(
    503,
    {"Content-Type": "application/xml"},
    [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"],
)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input ends; print the port first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _Server()
    files = [Path(name) for name in sys.argv[1:]]
    context = Certificate(files[0], *files).server_context() if files else None
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 (the parent reads it)
        asyncio.run(serve(listener, server.link, server.handle, context))


if __name__ == "__main__":
    main()
