"""A forward proxy such as companies have, in threads of the process that makes it."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

_UPSTREAM_TIMEOUT = 120
"""Seconds that a server behind the proxy may stay silent."""

_HOP_BY_HOP = ("connection", "keep-alive", "proxy-authorization", "transfer-encoding", "expect")
_REPLACED = ("content-length", "date", "server")


class Request(NamedTuple):
    """A request that came in: ``CONNECT``, or another method with the whole URL as its target."""

    method: str
    target: str
    engine: str
    """obstore or fsspec."""


class ForwardProxy(AbstractContextManager["ForwardProxy"]):
    """A proxy that forwards by absolute URLs and tunnels by CONNECT. A context manager.

    Parameters
    ----------
    port : int
        Of the loopback interface, to which everything goes: no host needs a name that resolves.
    credentials : str
        ``user:password`` without which requests are answered 407; none are asked for if empty.

    Attributes
    ----------
    url : str
        Its own, with the credentials.
    requests : list of Request
        What came in, refused ones included.
    """

    def __init__(self, port: int, credentials: str = "") -> None:
        self.requests: list[Request] = []
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
        handler = type(
            "_Handler", (_Handler,), {"proxy": self, "upstream": port, "expected": expected}
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()
        at = f"{credentials}@" if credentials else ""
        self.url = f"http://{at}127.0.0.1:{self._server.server_address[1]}"

    def engines(self) -> set[str]:
        """Return the engines whose requests came in since the last call."""
        found = {request.engine for request in self.requests}
        self.requests.clear()
        return found

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: ForwardProxy
    upstream: int
    expected: str
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        engine = "obstore" if "object_store" in self.headers.get("User-Agent", "") else "fsspec"
        self.proxy.requests.append(Request(self.command, self.path, engine))
        if self.expected and self.headers.get("Proxy-Authorization") != self.expected:
            self._refuse()
        elif self.command == "CONNECT":
            self._tunnel()
        else:
            self._forward()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _forward(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Without the host, which http.client sends itself: moto takes a name for that of a bucket.
        left_out = (*_HOP_BY_HOP, "host")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
        connection = HTTPConnection("127.0.0.1", self.upstream, timeout=_UPSTREAM_TIMEOUT)
        target = f"{url.path}?{url.query}" if url.query else url.path
        try:
            connection.request(self.command, target, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            self.send_error(502)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*_HOP_BY_HOP, *_REPLACED):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = answer.getheader("Content-Length") or "0" if is_head else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    def _tunnel(self) -> None:
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, self.connection), daemon=True)
            back.start()
            _copy(self.connection, server)
            back.join()

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy the bytes of one direction, and its end."""
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
