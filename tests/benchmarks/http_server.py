"""HTTP/1.1 over a link of given latency and bandwidth, with little work per byte.

Bodies are received directly into the memory that stores them and sent directly from it, so that
the server takes as little as possible of the CPU that it shares with the measured process.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import exp
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from tests.benchmarks.wire import TlsWire, Wire

__all__ = ["Handler", "Link", "Request", "Response", "serve"]

_PACE = 0.005
"""Seconds of bandwidth between two sleeps; a clock tick is 0.001. A longer interval would deliver
the end of a body in a larger burst, unlike any link."""

_MIN_CHUNK = 2**16
_MAX_CHUNK = 2**20


@dataclass
class Link:
    """The link between clients and server, with the bytes of bodies transferred.

    Attributes
    ----------
    latency : float
        Seconds from the end of a request to the start of its response, at the median.
    bandwidth : float
        Bytes per second, connection and direction; 0 for unlimited.
    sigma : float
        Standard deviation of the logarithm of the latency: 0 for one that is constant.
    lost : float
        Share of the requests that are never answered.
    bytes_received, bytes_sent : int
        As seen by the server, without headers and control requests.
    """

    latency: float = 0.0
    bandwidth: float = 0.0
    sigma: float = 0.0
    lost: float = 0.0
    bytes_received: int = 0
    bytes_sent: int = 0

    def draw_latency(self) -> float:
        """Return the latency of one request in seconds."""
        return self.latency * exp(random.gauss(0, self.sigma)) if self.sigma else self.latency

    def loses(self) -> bool:
        """Return True for a request that is not answered."""
        return random.random() < self.lost

    @property
    def chunk(self) -> int:
        """Bytes between two readings of the clock."""
        if not self.bandwidth:
            return _MAX_CHUNK
        return min(_MAX_CHUNK, max(_MIN_CHUNK, int(self.bandwidth * _PACE)))


class Request(NamedTuple):
    """One request with its body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytearray


class Response(NamedTuple):
    """The response to a request.

    Attributes
    ----------
    segments : sequence of buffer
        The body, in segments that are sent without a copy.
    length : int or None
        Value of ``Content-Length`` for a response without body, that to a HEAD.
    control : bool
        True if it is not part of the measurement: it is sent without delay and not counted.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    segments: Sequence[bytes | memoryview] = ()
    length: int | None = None
    control: bool = False

    @property
    def head(self) -> bytes:
        """Status line and headers as sent."""
        length = sum(map(len, self.segments)) if self.length is None else self.length
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode()


Handler = Callable[[Request], Response]


class _Pace:
    """The pace of one body: delays it to the bandwidth of the link."""

    def __init__(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._start = time.monotonic()

    async def wait(self, nbytes: int) -> None:
        """Wait until the link could have transferred `nbytes` bytes."""
        if self._bandwidth:
            ahead = self._start + nbytes / self._bandwidth - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)


class _Connection:
    """One client's connection."""

    def __init__(self, wire: Wire, link: Link) -> None:
        self._wire = wire
        self._link = link
        self._ahead = bytearray()  # received with the lines before it, not yet used

    async def receive(self) -> Request | None:
        """Return the next request, or None at the end of the connection."""
        head = await self._read_to(b"\r\n\r\n")
        if not head:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(_split_header(line) for line in lines)
        if headers.get("expect", "").lower() == "100-continue":
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        path, _, query = target.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        return Request(method, unquote(path), parameters, headers, await self._read_body(headers))

    async def send(self, response: Response) -> None:
        """Send a response at the pace of the link."""
        if response.control:
            await self._send(b"".join([response.head, *response.segments]))
            return
        if self._link.loses():
            await self._wait_for_end()
        await asyncio.sleep(self._link.draw_latency())
        await self._send_paced(response)

    async def _wait_for_end(self) -> None:
        """Wait until the client closes the connection, which it raises."""
        while await self._wire.receive(_MIN_CHUNK):
            pass
        raise ConnectionResetError

    async def _send_paced(self, response: Response) -> None:
        pace, sent = _Pace(self._link.bandwidth), 0
        # The head is sent with the first bytes of the body, as by a real server.
        ahead = response.head
        for chunk in _chunks(response.segments, self._link.chunk):
            await pace.wait(sent + len(chunk))
            joined = _MIN_CHUNK if ahead else 0
            await self._send(ahead + bytes(chunk[:joined]))
            await self._send(chunk[joined:])
            ahead = b""
            sent += len(chunk)
            self._link.bytes_sent += len(chunk)
        await self._send(ahead)

    async def _send(self, data: bytes | memoryview) -> None:
        if data:
            await self._wire.send(data)

    async def _read_body(self, headers: Mapping[str, str]) -> bytearray:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._read_chunks()
        body = bytearray(int(headers.get("content-length", 0)))
        await self._fill(memoryview(body))
        return body

    async def _read_chunks(self) -> bytearray:
        body = bytearray()
        while size := int((await self._read_to(b"\r\n")).partition(b";")[0], 16):
            chunk = bytearray(size)
            await self._fill(memoryview(chunk))
            body += chunk
            await self._read_to(b"\r\n")
        while await self._read_to(b"\r\n"):
            pass  # trailers
        return body

    async def _fill(self, view: memoryview) -> None:
        pace, filled = _Pace(self._link.bandwidth), min(len(view), len(self._ahead))
        view[:filled] = self._ahead[:filled]
        del self._ahead[:filled]
        while filled < len(view):
            await pace.wait(filled)
            room = view[filled : filled + self._link.chunk]
            count = await self._wire.receive_into(room)
            if not count:
                raise ConnectionResetError("the client closed the connection within a body")
            filled += count
        await pace.wait(filled)
        self._link.bytes_received += filled

    async def _read_to(self, end: bytes) -> bytes:
        """Return the bytes before `end`, or none if the connection ends first."""
        while (found := self._ahead.find(end)) < 0:
            data = await self._wire.receive(_MIN_CHUNK)
            if not data:
                return b""
            self._ahead += data
        line = bytes(self._ahead[:found])
        del self._ahead[: found + len(end)]
        return line


def _split_header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def _chunks(segments: Sequence[bytes | memoryview], size: int) -> list[memoryview]:
    views = [memoryview(segment) for segment in segments]
    return [view[start : start + size] for view in views for start in range(0, len(view), size)]


async def serve(
    listener: socket.socket, link: Link, handle: Handler, context: ssl.SSLContext | None = None
) -> None:
    """Answer requests on every connection that `listener` accepts, until cancelled.

    With a `context` they speak TLS.
    """
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = TlsWire(sock, context) if context else Wire(sock)
        task = loop.create_task(_converse(wire, link, handle))
        # The event loop itself holds tasks only weakly.
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _converse(wire: Wire, link: Link, handle: Handler) -> None:
    connection = _Connection(wire, link)
    try:
        await wire.open()
        while request := await connection.receive():
            await connection.send(handle(request))
    except (ConnectionError, ssl.SSLError):
        pass  # the client closed the connection
    finally:
        wire.close()
