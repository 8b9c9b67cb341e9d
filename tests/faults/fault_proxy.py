"""An HTTP proxy in front of an S3 server that injects faults of networks and servers.

It runs in threads of the process that makes it, so a test switches faults on and off while
processes of Ray, which found it in ``AWS_ENDPOINT_URL``, go on using it.
"""

from __future__ import annotations

import math
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from tests.faults.slow_link import Bandwidth, limit_unsent

__all__ = [
    "Answer",
    "Call",
    "Dialect",
    "Fault",
    "FaultProxy",
    "Request",
    "is_bulk_delete",
    "is_object",
    "is_part",
]

SLOW_RATE = 1.5e6
"""Bytes per second and direction of a slow link."""

UPSTREAM_TIMEOUT = 120
"""Seconds that the server behind the proxy may stay silent."""

_HOP_BY_HOP = ("Connection", "Keep-Alive", "Expect", "Transfer-Encoding")
_RANGE = re.compile(r"bytes (\d+)-\d+/(.*)")
_OTHER_BYTES = bytes(byte ^ 0xA5 for byte in range(256))


class Fault(Enum):
    """A fault that can happen to a request.

    Faults of an answer's body happen to answers with status 200 or 206 that have one. A stall ends
    when the client closes the connection, or the proxy is paused or closed.
    """

    UNAVAILABLE = auto()
    """503 SlowDown; nothing is forwarded."""
    THROTTLED = auto()
    """429 TooManyRequests; nothing is forwarded."""
    FORBIDDEN = auto()
    """403 AccessDenied; nothing is forwarded."""
    TOO_LARGE = auto()
    """400 EntityTooLarge; nothing is forwarded."""
    MISSING = auto()
    """404 NoSuchKey to a request that reads a file; nothing is forwarded, and other requests are
    left alone."""
    DELETE_DENIED = auto()
    """A bulk delete is answered 200 with AccessDenied for every key, any other DELETE 403; nothing
    is forwarded, and other requests are left alone."""
    RESET = auto()
    """The connection is reset (RST); nothing is forwarded."""
    STALL = auto()
    """No answer, and the connection stays open; nothing is forwarded."""
    FLIP_UP = auto()
    """One bit of the request's body is flipped on its way to the server, in the body as it was
    sent: with the content encoding aws-chunked, that may be one of the framing."""
    RESET_AFTER = auto()
    """The server has done what it was asked; the connection is reset instead of an answer."""
    STALL_HALF = auto()
    """The headers and half of the body, then nothing, and the connection stays open."""
    CUT = auto()
    """The true Content-Length and half of the body, then the end of the connection."""
    SHORT = auto()
    """The end of the body is missing, up to half of it, and all headers agree with that."""
    FLIP = auto()
    """One bit of the answer's body is flipped."""
    SWAP = auto()
    """Every byte of the body is another; their number stays."""
    SLOW_LINK = auto()
    """The bodies of all requests and answers share a link of `SLOW_RATE`, whatever the rate and
    the count say."""


_OF_ANSWERS = frozenset(
    {Fault.RESET_AFTER, Fault.STALL_HALF, Fault.CUT, Fault.SHORT, Fault.FLIP, Fault.SWAP}
)
_REFUSALS = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.THROTTLED: (429, "TooManyRequests"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.TOO_LARGE: (400, "EntityTooLarge"),
    Fault.MISSING: (404, "NoSuchKey"),
    Fault.DELETE_DENIED: (403, "AccessDenied"),
}


class Request(NamedTuple):
    """One request that came in; `path` includes the query."""

    method: str
    path: str


def is_object(path: str) -> bool:
    """Return True if a path with query names an object, and not a bucket or a listing of one."""
    return "/" in urlsplit(path).path.strip("/")


def is_part(path: str) -> bool:
    """Return True if a path with query is that of one part of a multipart upload."""
    return "partNumber" in _query(path)


def is_bulk_delete(path: str) -> bool:
    """Return True if a path with query is that of a deletion of many objects."""
    return "delete" in _query(path)


def _query(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query, keep_blank_values=True)


class FaultProxy(AbstractContextManager["FaultProxy"]):
    """A proxy in front of a server that injects faults. A context manager.

    Parameters
    ----------
    endpoint_url : str
        Of the server, ``http://<host>:<port>``.

    Attributes
    ----------
    endpoint_url : str
        Where the proxy itself listens, on the loopback interface.
    environment : dict
        What a process needs in its environment to use it: endpoint and credentials.
    requests : list of Request
        All that came in, refused and spoiled ones included, in order.
    injected : Counter
        How often each ``(fault, method)`` happened. Counted before the client can see it.

    Notes
    -----
    One thread per connection, each with one connection to the server. A request is read whole
    before it is forwarded and an answer before it is sent; headers, Host included, go through as
    they came, except those that concern one connection only. A server that cannot be reached ends
    the client's connection.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._upstream = urlsplit(endpoint_url).netloc
        self.requests: list[Request] = []
        self.injected: Counter[tuple[Fault, str]] = Counter()
        self._rules: list[_Rule] = []
        self._dialects: list[Dialect] = []
        self._lock = threading.Lock()
        self._up, self._down = Bandwidth(SLOW_RATE), Bandwidth(SLOW_RATE)
        self._server: _Server | None = None
        self._reserved = _reserve_port()
        self._address: tuple[str, int] = self._reserved.getsockname()
        self.endpoint_url = f"http://127.0.0.1:{self._address[1]}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        self.resume()

    @contextmanager
    def inject(
        self,
        fault: Fault,
        *,
        rate: float = 1.0,
        count: float = math.inf,
        method: str | None = None,
        where: Callable[[str], bool] | None = None,
        body: bytes | None = None,
        agent: str | None = None,
        seed: int = 0,
    ) -> Iterator[None]:
        """Inject a fault until the block ends.

        Parameters
        ----------
        fault : Fault
            What happens. Of several blocks, the first that strikes a request wins; one that
            happens to the request and one that happens to its answer can both strike.
        rate : float
            The share of the matching requests that it happens to, 0 to 1.
        count : int, optional
            How often it happens at most.
        method : str, optional
            Only to requests with this method.
        where : callable, optional
            Only to requests whose path, with query, it is true for.
        body : bytes, optional
            Only to requests whose body contains this.
        agent : str, optional
            Only to requests whose User-Agent contains this: those of one library.
        seed : int
            Of the choice of requests and of bits.
        """
        rule = _Rule(fault, rate, count, method, where, body, agent, random.Random(seed))
        with self._lock:
            self._rules.append(rule)
        try:
            yield
        finally:
            with self._lock:
                self._rules.remove(rule)

    @contextmanager
    def speak(self, dialect: Dialect) -> Iterator[None]:
        """Answer as another kind of server, until the block ends."""
        self._dialects.append(dialect)
        try:
            yield
        finally:
            self._dialects.remove(dialect)

    def pause(self) -> None:
        """Refuse connections, and close those that are open, like a server that is down.

        When this returns, nothing more is forwarded. Requests that had been forwarded took effect.
        """
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def resume(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._server = _Server(self._address, self)

    def close(self) -> None:
        """End every connection and free the port."""
        self.pause()
        self._reserved.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _is_slow(self) -> bool:
        return any(rule.fault is Fault.SLOW_LINK for rule in self._rules)

    def _strike(self, call: Call, answer: Answer | None = None) -> _Rule | None:
        """Return the rule that strikes a request, or its answer, and count it."""
        with self._lock:
            for rule in self._rules:
                if rule.strikes(call, answer):
                    self.injected[rule.fault, call.method] += 1
                    return rule
        return None


def _reserve_port() -> socket.socket:
    """Bind a port without listening on it.

    While the proxy is paused no other process gets the port, and no client that connects to it gets
    it as its own, which would connect the client with itself.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


@dataclass
class Call:
    """A request in full."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        """The values of the query, by name; empty ones are kept."""
        return _query(self.path)


@dataclass
class Answer:
    """An answer in full."""

    status: int
    reason: str
    headers: Message
    body: bytes

    @classmethod
    def of(cls, status: int, body: bytes = b"", **headers: str) -> Answer:
        """Return an answer; in the names of headers ``_`` stands for ``-``."""
        answer = cls(status, HTTPStatus(status).phrase, Message(), b"")
        for name, value in headers.items():
            answer.headers[name.replace("_", "-")] = value
        answer.replace_body(body)
        return answer

    def replace_body(self, body: bytes) -> None:
        """Set another body and its length."""
        self.body = body
        del self.headers["Content-Length"]
        self.headers["Content-Length"] = str(len(body))


class Dialect:
    """The ways of another kind of server; by default none."""

    def answer(self, call: Call) -> Answer | None:
        """Return an answer without asking the server; None to ask it. May alter the call."""
        return None

    def alter(self, call: Call, answer: Answer) -> None:
        """Alter the server's answer to a call."""


@dataclass(eq=False)
class _Rule:
    """One call of `FaultProxy.inject`."""

    fault: Fault
    rate: float
    left: float
    method: str | None
    where: Callable[[str], bool] | None
    body: bytes | None
    agent: str | None
    random: random.Random

    def strikes(self, call: Call, answer: Answer | None) -> bool:
        """Return True if the fault strikes a request, or its answer if it is a fault of answers."""
        matches = (
            (self.fault in _OF_ANSWERS) == (answer is not None)
            and self.method in (None, call.method)
            and (self.where is None or self.where(call.path))
            and (self.body is None or self.body in call.body)
            and (self.agent is None or self.agent in call.headers.get("User-Agent", ""))
            and _can_happen(self.fault, call, answer)
        )
        if not matches or self.left < 1 or self.random.random() >= self.rate:
            return False
        self.left -= 1
        return True


def _can_happen(fault: Fault, call: Call, answer: Answer | None) -> bool:
    if fault is Fault.DELETE_DENIED:
        return call.method == "DELETE" or is_bulk_delete(call.path)
    if fault is Fault.MISSING:
        return call.method == "GET" and is_object(call.path)
    if fault is Fault.FLIP_UP:
        return bool(call.body)
    if answer is None or fault is Fault.RESET_AFTER:
        return True
    least = 2 if fault is Fault.SHORT else 1
    return answer.status in (200, 206) and len(answer.body) >= least


def _refuse(fault: Fault, call: Call) -> Answer:
    """Return the answer of a server that refuses a request."""
    status, code = _REFUSALS[fault]
    if fault is Fault.DELETE_DENIED and is_bulk_delete(call.path):
        status, root = 200, ElementTree.Element("DeleteResult")
        for key in ElementTree.fromstring(call.body).iterfind(".//{*}Key"):
            error = ElementTree.SubElement(root, "Error")
            ElementTree.SubElement(error, "Key").text = key.text
            ElementTree.SubElement(error, "Code").text = code
    else:
        root = ElementTree.Element("Error")
        ElementTree.SubElement(root, "Code").text = code
        ElementTree.SubElement(root, "Message").text = "Injected by the proxy"
    answer = Answer(status, code, Message(), b"")
    answer.headers["Content-Type"] = "application/xml"
    answer.replace_body(ElementTree.tostring(root, "utf-8", xml_declaration=True))
    return answer


def _spoil(rule: _Rule, answer: Answer) -> None:
    """Alter the body of an answer so that only its content shows it."""
    if rule.fault is Fault.FLIP:
        answer.body = _flip(answer.body, rule.random)
    elif rule.fault is Fault.SWAP:
        answer.body = answer.body.translate(_OTHER_BYTES)
    elif rule.fault is Fault.SHORT:
        length = len(answer.body)
        answer.replace_body(answer.body[: rule.random.randrange(-(-length // 2), length)])
        if found := _RANGE.fullmatch(answer.headers.get("Content-Range", "")):
            last = int(found[1]) + len(answer.body) - 1
            answer.headers.replace_header("Content-Range", f"bytes {found[1]}-{last}/{found[2]}")


def _flip(body: bytes, chooser: random.Random) -> bytes:
    flipped = bytearray(body)
    flipped[chooser.randrange(len(body))] ^= 1 << chooser.randrange(8)
    return bytes(flipped)


class _Server(socketserver.ThreadingTCPServer):
    """The listening socket and its connections, between two pauses."""

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._connections: set[Any] = set()
        super().__init__(address, _Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind the port."""
        limit_unsent(self.socket)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(request)
        super().close_request(request)

    def stop(self) -> None:
        """Close everything, and wait for the end of every thread."""
        self.shutdown()
        self._thread.join()
        self.socket.close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # ended by itself
        self.server_close()


class _Connection(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Take the connection, with one of its own to the server."""
        super().setup()
        self._upstream = HTTPConnection(self.server.proxy._upstream, timeout=UPSTREAM_TIMEOUT)

    def handle(self) -> None:
        """Serve request after request."""
        try:
            super().handle()
        except (OSError, HTTPException):
            pass  # the client or the server went away, and so does this connection

    def finish(self) -> None:
        """Close both connections."""
        self._upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: `FaultProxy.requests` has every request."""

    def do_GET(self) -> None:
        """Serve a request: apply faults to it, forward it, apply faults to its answer."""
        call = Call(self.command, self.path, self.headers, self._read_body())
        proxy = self.server.proxy
        proxy.requests.append(Request(call.method, call.path))
        rule = proxy._strike(call)
        fault = rule and rule.fault
        if fault is Fault.RESET:
            self._reset()
        elif fault is Fault.STALL:
            self._hold()
        elif fault in _REFUSALS:
            self._send(_refuse(fault, call))
        else:
            if rule is not None and fault is Fault.FLIP_UP:
                call.body = _flip(call.body, rule.random)
            answer = self._answer_of(call)
            self._answer(answer, proxy._strike(call, answer))

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (what http.server calls)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self._read_line().partition(b";")[0], 16):
            chunks.append(self._read(size))
            self._read_line()
        while self._read_line().strip():
            pass  # trailers
        return b"".join(chunks)

    def _read(self, length: int) -> bytes:
        read = b"".join(self.rfile.read(chunk) for chunk in self._paced(length, self._proxy._up))
        if len(read) < length:
            raise ConnectionAbortedError("the client left in the middle of a request")
        return read

    @property
    def _proxy(self) -> FaultProxy:
        return self.server.proxy

    def _paced(self, length: int, bandwidth: Bandwidth) -> Iterator[int]:
        """Yield the bytes that are through next, when they are: all of them without a slow link."""
        while length and self._proxy._is_slow:
            chunk = min(length, bandwidth.chunk)
            time.sleep(bandwidth.reserve(chunk))
            yield chunk
            length -= chunk
        yield length

    def _read_line(self) -> bytes:
        if not (line := self.rfile.readline()):
            raise ConnectionAbortedError("the client left in the middle of a request")
        return line

    def _forward(self, call: Call) -> Answer:
        self._upstream.putrequest(call.method, call.path, skip_host=True, skip_accept_encoding=True)
        if "Transfer-Encoding" in call.headers:
            call.headers["Content-Length"] = str(len(call.body))
        for name, value in _end_to_end(call.headers).items():
            self._upstream.putheader(name, value)
        self._upstream.endheaders(call.body or None)
        response = self._upstream.getresponse()
        body = response.read()
        headers = _end_to_end(response.headers)
        if "Content-Length" not in headers and response.status not in (204, 304):
            headers["Content-Length"] = str(len(body))
        return Answer(response.status, response.reason, headers, body)

    def _answer_of(self, call: Call) -> Answer:
        """Return the answer of a dialect, or that of the server as the dialects alter it."""
        for dialect in self._proxy._dialects:
            if answer := dialect.answer(call):
                return answer
        answer = self._forward(call)
        for dialect in self._proxy._dialects:
            dialect.alter(call, answer)
        return answer

    def _answer(self, answer: Answer, rule: _Rule | None) -> None:
        half = len(answer.body) // 2
        if rule is None:
            self._send(answer)
        elif rule.fault is Fault.RESET_AFTER:
            self._reset()
        elif rule.fault is Fault.STALL_HALF:
            self._send(answer, half)
            self._hold()
        elif rule.fault is Fault.CUT:
            self._send(answer, half)
            self.close_connection = True
        else:
            _spoil(rule, answer)
            self._send(answer)

    def _send(self, answer: Answer, length: int | None = None) -> None:
        """Send the headers and the first `length` bytes of the body, or all of it."""
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            body, sent = memoryview(answer.body)[:length], 0
            for chunk in self._paced(len(body), self._proxy._down):
                self.wfile.write(body[sent : sent + chunk])
                sent += chunk

    def _hold(self) -> None:
        """Stay silent until the client, or the proxy, closes the connection."""
        self.close_connection = True
        while self.connection.recv(2**16):
            pass

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset and no orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # holds the socket open
        self.connection.close()


def _end_to_end(headers: Message) -> Message:
    for name in _HOP_BY_HOP:
        del headers[name]
    return headers
