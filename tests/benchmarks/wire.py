"""HTTP/1.1 over a link of known latency and bandwidth, with little work per byte.

Bodies go from the socket straight into the memory that keeps them, and from there straight to
the socket, so that the server takes as little as possible of the CPU that it shares with what
is measured.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

__all__ = ["Handler", "Request", "Response", "Wire", "serve"]

_PACE = 0.005
"""Seconds of bandwidth that pass between two sleeps: a clock tick is 0.001. What is sent at once
arrives at once: the coarser, the more of a body comes in one burst at its end, as on no link."""

_MIN_CHUNK = 2**16
_MAX_CHUNK = 2**20


@dataclass
class Wire:
    """The link between clients and server, and the bytes of bodies that have gone over it.

    Attributes
    ----------
    latency : float
        Seconds from the end of a request to the start of its response.
    bandwidth : float
        Bytes per second and connection, each way; 0 for as many as there can be.
    bytes_received, bytes_sent : int
        Seen from the server; headers and control requests do not count.
    """

    latency: float = 0.0
    bandwidth: float = 0.0
    bytes_received: int = 0
    bytes_sent: int = 0

    @property
    def chunk(self) -> int:
        """Bytes that may pass between two looks at the clock."""
        if not self.bandwidth:
            return _MAX_CHUNK
        return min(_MAX_CHUNK, max(_MIN_CHUNK, int(self.bandwidth * _PACE)))


class Request(NamedTuple):
    """One request, its body included."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytearray


class Response(NamedTuple):
    """The answer to a request.

    Attributes
    ----------
    segments : sequence of buffer
        The body, in blocks that are sent uncopied.
    length : int or None
        What ``Content-Length`` says where there is no body: the answer to a HEAD.
    control : bool
        Not part of what is measured: passes at once and is not counted.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    segments: Sequence[bytes | memoryview] = ()
    length: int | None = None
    control: bool = False

    @property
    def head(self) -> bytes:
        """Status line and headers as they are sent."""
        length = sum(map(len, self.segments)) if self.length is None else self.length
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode()


Handler = Callable[[Request], Response]


class _Pace:
    """When so many bytes of one body may have passed."""

    def __init__(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._start = time.monotonic()

    async def wait(self, nbytes: int) -> None:
        if self._bandwidth:
            ahead = self._start + nbytes / self._bandwidth - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)


class _Connection:
    """One client's connection."""

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._wire = wire
        self._ahead = bytearray()  # received with the lines before it, not yet used

    async def receive(self) -> Request | None:
        """Return the next request; None at the end of the connection."""
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
        """Send a response, at the pace of the link."""
        if response.control:
            await self._send(b"".join([response.head, *response.segments]))
            return
        await asyncio.sleep(self._wire.latency)
        await self._send_paced(response)

    async def _send_paced(self, response: Response) -> None:
        pace, sent = _Pace(self._wire.bandwidth), 0
        # The head goes out with the first bytes of the body, as it does from a real server.
        ahead = response.head
        for chunk in _chunks(response.segments, self._wire.chunk):
            await pace.wait(sent + len(chunk))
            joined = _MIN_CHUNK if ahead else 0
            await self._send(ahead + bytes(chunk[:joined]))
            await self._send(chunk[joined:])
            ahead = b""
            sent += len(chunk)
            self._wire.bytes_sent += len(chunk)
        await self._send(ahead)

    async def _send(self, data: bytes | memoryview) -> None:
        if data:
            await self._loop.sock_sendall(self._sock, data)

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
        pace, filled = _Pace(self._wire.bandwidth), min(len(view), len(self._ahead))
        view[:filled] = self._ahead[:filled]
        del self._ahead[:filled]
        while filled < len(view):
            await pace.wait(filled)
            room = view[filled : filled + self._wire.chunk]
            count = await self._loop.sock_recv_into(self._sock, room)
            if not count:
                raise ConnectionResetError("the client hung up in the middle of a body")
            filled += count
        await pace.wait(filled)
        self._wire.bytes_received += filled

    async def _read_to(self, end: bytes) -> bytes:
        """Return what comes before `end`; nothing if the connection ends first."""
        while (found := self._ahead.find(end)) < 0:
            data = await self._loop.sock_recv(self._sock, _MIN_CHUNK)
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


async def serve(listener: socket.socket, wire: Wire, handle: Handler) -> None:
    """Answer requests on every connection that `listener` accepts, for ever."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(_converse(sock, wire, handle))
        # The event loop itself holds tasks only weakly.
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _converse(sock: socket.socket, wire: Wire, handle: Handler) -> None:
    connection = _Connection(sock, wire)
    try:
        while request := await connection.receive():
            await connection.send(handle(request))
    except ConnectionError:
        pass  # the client gave up, as one may
    finally:
        sock.close()
