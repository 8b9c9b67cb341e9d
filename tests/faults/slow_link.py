"""A slow link between clients and a server of any protocol, shared by all their connections."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

__all__ = ["Bandwidth", "SlowLink", "limit_unsent"]

_CHUNK_SECONDS = 0.002
_MIN_CHUNK, _MAX_CHUNK = 1460, 2**14


class Bandwidth:
    """The bytes per second of one direction of a link, for all that goes over it together.

    Parameters
    ----------
    rate : float
        Bytes per second.

    Attributes
    ----------
    chunk : int
        Bytes that have their turn together, after which others have theirs.
    nbytes : int
        Bytes so far.
    """

    def __init__(self, rate: float) -> None:
        self.chunk = max(_MIN_CHUNK, min(int(rate * _CHUNK_SECONDS), _MAX_CHUNK))
        self.nbytes = 0
        self._rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def reserve(self, nbytes: int) -> float:
        """Put bytes at the end of the queue, and return the seconds until they are through."""
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + nbytes / self._rate
            self.nbytes += nbytes
            return self._free - now


class SlowLink(AbstractContextManager["SlowLink"]):
    """A relay to a server of any protocol over TCP. A context manager.

    Parameters
    ----------
    port : int
        Where the server listens on the loopback interface.
    rate : float
        Bytes per second, in each direction.

    Attributes
    ----------
    port : int
        Where the relay listens.
    up, down : Bandwidth
        The two directions.
    """

    def __init__(self, port: int, rate: float) -> None:
        self.up, self.down = Bandwidth(rate), Bandwidth(rate)
        self._target = port
        self._listener = socket.socket()
        limit_unsent(self._listener)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(1024)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._relays: set[asyncio.Future[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, sock=self._listener, limit=_MAX_CHUNK)
        async with server:
            await self._stopped.wait()
            for task in self._relays:
                task.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of its own: asyncio reports the end of a cancelled handler as an error.
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            ahead, behind = await asyncio.open_connection(
                "127.0.0.1", self._target, limit=_MAX_CHUNK
            )
            async with _closing(behind):
                ways = [_move(reader, behind, self.up), _move(ahead, writer, self.down)]
                tasks = [asyncio.ensure_future(way) for way in ways]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)


async def _move(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, bandwidth: Bandwidth
) -> None:
    while data := await source.read(bandwidth.chunk):
        await asyncio.sleep(bandwidth.reserve(len(data)))
        target.write(data)
        await target.drain()


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    except OSError:
        pass  # the client or the server went away
    finally:
        writer.close()


def limit_unsent(listener: socket.socket) -> None:
    """Let the connections of a socket that will listen hold as little as those of a real link.

    On the loopback interface segments have 64 KiB, and the system takes 4 MB of every body before
    the first byte of it is received; with segments of the usual size 1 MB.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MIN_CHUNK)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
