"""The bytes of one connection, plain or through TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["TlsWire", "Wire"]

T = TypeVar("T")

_RECORDS = 2**18
"""Bytes that are taken from the socket at once, and encrypted before they are sent."""


class Wire:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock

    async def open(self) -> None:
        """Begin."""

    async def receive(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end of the connection."""
        return await self._loop.sock_recv(self._sock, size)

    async def receive_into(self, view: memoryview) -> int:
        """Receive bytes into `view`, and return how many; 0 at the end of the connection."""
        return await self._loop.sock_recv_into(self._sock, view)

    async def send(self, data: bytes | memoryview) -> None:
        """Send all bytes."""
        await self._loop.sock_sendall(self._sock, data)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class TlsWire(Wire):
    """A connected socket whose server's side of TLS is here."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def open(self) -> None:
        """Agree on keys."""
        await self._do(self._tls.do_handshake)

    async def receive(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end of the connection."""
        return await self._do(lambda: self._tls.read(size))

    async def receive_into(self, view: memoryview) -> int:
        """Receive bytes into `view`, and return how many; 0 at the end of the connection."""
        return await self._do(partial(self._read_into, view))

    def _read_into(self, view: memoryview) -> int:
        read: Any = self._tls.read  # declared to return bytes in any case
        count: int = read(len(view), view)
        return count

    async def send(self, data: bytes | memoryview) -> None:
        """Send all bytes."""
        view = memoryview(data)
        for start in range(0, len(view), _RECORDS):
            self._tls.write(view[start : start + _RECORDS])
            await self._flush()

    async def _do(self, operation: Callable[[], T]) -> T:
        """Call an operation until enough has been received for it."""
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._loop.sock_recv(self._sock, _RECORDS)
                if not data:
                    raise ConnectionResetError("the client closed the connection") from None
                self._incoming.write(data)
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())
