"""CPU time of bare clients of S3 beside that of fsspill, with http and with https.

``python -m tests.benchmarks.raw_clients`` uploads and downloads with bare clients and spills and
restores with fsspill, by turns, and prints a table: what TLS costs, and how far fsspill is above
the cheapest client. The bare clients sign, send and receive, and do nothing else: no digests, no
retries, no local names of files.
"""

from __future__ import annotations

import argparse
import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from queue import SimpleQueue
from ssl import create_default_context
from statistics import median
from typing import Any, ClassVar
from urllib.parse import urlsplit

from fsspill.bench.contenders import Contender
from fsspill.bench.measure import GIB, time_call
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.ray.malloc import raise_trim_threshold
from fsspill.settings import MIB
from tests.benchmarks.contenders import BUCKET, fsspill_contenders
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.raw_libraries import client_options
from tests.benchmarks.suite import environment
from tests.benchmarks.table import aligned

__all__ = ["RAW_CLIENTS", "ClientRow", "compare"]

_THREADS = 8
_PIECE = 8 * MIB


class RawClient(ABC):
    """A client that moves pieces of `_PIECE` bytes side by side.

    Parameters
    ----------
    server : LinkServer
        The server; its environment must be set.
    pieces : sequence of memoryview
        The bytes of each file.
    """

    name: ClassVar[str]

    def __init__(self, server: LinkServer, pieces: Sequence[memoryview]) -> None:
        self._pieces = pieces
        self._keys = [f"{self.name}/{number}" for number in range(len(pieces))]

    @abstractmethod
    def upload(self) -> None:
        """Store each piece as a file of its own."""

    @abstractmethod
    def download(self) -> None:
        """Read all files."""

    def close(self) -> None:  # noqa: B027 (not all have something to close)
        """Close connections and threads."""


class ObstoreClient(RawClient):
    """obstore, all requests at once from asyncio."""

    name = "obstore"

    def __init__(self, server: LinkServer, pieces: Sequence[memoryview]) -> None:
        from obstore.store import S3Store

        super().__init__(server, pieces)
        self._store = S3Store(
            BUCKET,
            endpoint=server.endpoint_url,
            region="us-east-1",
            client_options=client_options(),
        )

    def upload(self) -> None:
        """Store each piece as a file of its own."""
        asyncio.run(self._upload())

    async def _upload(self) -> None:
        pairs = zip(self._keys, self._pieces, strict=True)
        puts = (self._store.put_async(key, piece, use_multipart=False) for key, piece in pairs)
        await asyncio.gather(*puts)

    def download(self) -> None:
        """Read all files."""
        asyncio.run(self._download())

    async def _download(self) -> None:
        gets = (self._store.get_range_async(key, start=0, end=_PIECE) for key in self._keys)
        await asyncio.gather(*gets)


class Boto3Client(RawClient):
    """boto3 in threads."""

    name = f"boto3, {_THREADS} threads"

    def __init__(self, server: LinkServer, pieces: Sequence[memoryview]) -> None:
        super().__init__(server, pieces)
        self._client = boto3_client(server)
        self._threads = ThreadPoolExecutor(_THREADS)
        self._bodies = list(map(bytes, pieces))  # it takes no view

    def upload(self) -> None:
        """Store each piece as a file of its own."""
        list(self._threads.map(self._put, self._keys, self._bodies))

    def _put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def download(self) -> None:
        """Read all files."""
        list(self._threads.map(self._get, self._keys))

    def _get(self, key: str) -> None:
        self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def close(self) -> None:
        """Close connections and threads."""
        self._threads.shutdown()
        self._client.close()


class HttpClient(RawClient):
    """The standard library's http.client in threads, on URLs that boto3 has signed.

    Downloads are read straight into buffers that stay.
    """

    name = f"http.client, {_THREADS} threads"

    def __init__(self, server: LinkServer, pieces: Sequence[memoryview]) -> None:
        super().__init__(server, pieces)
        self._client = boto3_client(server)
        self._threads = ThreadPoolExecutor(_THREADS)
        self._idle: SimpleQueue[tuple[HTTPConnection, memoryview]] = SimpleQueue()
        for _ in range(_THREADS):
            self._idle.put((_connection(server), memoryview(bytearray(_PIECE))))

    def upload(self) -> None:
        """Store each piece as a file of its own."""
        list(self._threads.map(self._put, self._signed("put_object"), self._pieces))

    def _put(self, target: str, piece: memoryview) -> None:
        connection, buffer = self._idle.get()
        connection.request("PUT", target, piece)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
        self._idle.put((connection, buffer))

    def download(self) -> None:
        """Read all files."""
        list(self._threads.map(self._get, self._signed("get_object")))

    def _get(self, target: str) -> None:
        connection, buffer = self._idle.get()
        connection.request("GET", target)
        response = connection.getresponse()
        received = 0
        while count := response.readinto(buffer[received:]):
            received += count
        assert received == _PIECE
        self._idle.put((connection, buffer))

    def close(self) -> None:
        """Close connections and threads."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get()[0].close()

    def _signed(self, operation: str) -> list[str]:
        places = [{"Bucket": BUCKET, "Key": key} for key in self._keys]
        urls = (self._client.generate_presigned_url(operation, Params=place) for place in places)
        return [url.partition(urlsplit(url).netloc)[2] for url in urls]


RAW_CLIENTS: Sequence[type[RawClient]] = (ObstoreClient, Boto3Client, HttpClient)


def boto3_client(server: LinkServer) -> Any:
    """Return a client of boto3 without checksums of bodies, which fsspill makes none of either."""
    import boto3
    from botocore.config import Config

    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": False, "addressing_style": "path"},
        max_pool_connections=_THREADS,
    )
    return boto3.client(
        "s3", endpoint_url=server.endpoint_url, region_name="us-east-1", config=config
    )


def _connection(server: LinkServer) -> HTTPConnection:
    address = urlsplit(server.endpoint_url).netloc
    bundle = server.environment.get("AWS_CA_BUNDLE")
    if bundle is None:
        return HTTPConnection(address)
    return HTTPSConnection(address, context=create_default_context(cafile=bundle))


@dataclass(frozen=True)
class ClientRow:
    """One client with http or https: medians of the rounds, in CPU seconds per GiB.

    Attributes
    ----------
    up, down : float
        CPU seconds of this process.
    above_up, above_down : float
        The same above the cheapest raw client: medians of the differences within a round.
    """

    headings: ClassVar[Sequence[str]] = (
        "", "client", "up, CPU s/GiB", "above", "down, CPU s/GiB", "above",
    )  # fmt: skip

    scheme: str
    client: str
    up: float
    above_up: float
    down: float
    above_down: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        numbers = (self.up, self.above_up, self.down, self.above_down)
        return (self.scheme, self.client, *(f"{number:.2f}" for number in numbers))


Work = Callable[[], None]


class _Spilling:
    """fsspill, which spills and restores all pieces as one object."""

    def __init__(self, contender: Contender, store: ReusedStore, nbytes: int) -> None:
        self._contender = contender
        self._store = store
        self._nbytes = nbytes
        self._refs: list[bytes] = []
        self._urls: list[bytes] = []

    def upload(self) -> None:
        self._refs = self._store.fill(1, self._nbytes)
        self._urls = self._contender.spill(self._refs)

    def download(self) -> None:
        self._contender.restore(self._refs[0], self._urls[0])


def compare(
    count: int, rounds: int, latency: float = 0, bandwidth: float = 0
) -> Iterator[ClientRow]:
    """Measure all clients by turns, first with http and then with https.

    Parameters
    ----------
    count : int
        Number of pieces of 8 MiB.
    rounds : int
        Number of rounds, after one that is not counted.
    latency, bandwidth : float
        Latency of the link in seconds, bandwidth in bytes per second; 0 for none and unlimited.
    """
    data = random_bytes(count * _PIECE)
    store = ReusedStore(data)
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    for tls in (False, True):
        with LinkServer(latency, bandwidth, tls=tls) as server, environment(server.environment):
            server.create_bucket(BUCKET)
            raws = [client(server, pieces) for client in RAW_CLIENTS]
            clients: dict[str, tuple[Work, Work]] = {
                raw.name: (raw.upload, raw.download) for raw in raws
            }
            for contender in fsspill_contenders(server, store):
                spilling = _Spilling(contender, store, len(data))
                clients[contender.name] = (spilling.upload, spilling.download)
            measured = [_measure(clients, server, len(data)) for _ in range(1 + rounds)][1:]
            for raw in raws:
                raw.close()
            yield from _rows(urlsplit(server.endpoint_url).scheme, list(clients), measured)


Round = list[tuple[float, float]]


def _measure(clients: dict[str, tuple[Work, Work]], server: LinkServer, nbytes: int) -> Round:
    """Return CPU seconds per GiB of each client, up and down."""
    found = []
    for up, down in clients.values():
        seconds = [time_call(work)[1] * GIB / nbytes for work in (up, down)]
        found.append((seconds[0], seconds[1]))
        server.reset()
    return found


def _rows(scheme: str, names: Sequence[str], measured: Sequence[Round]) -> Iterator[ClientRow]:
    for index, name in enumerate(names):
        numbers: list[float] = []
        for way in range(2):
            seconds = [one[index][way] for one in measured]
            least = (min(raw[way] for raw in one[: len(RAW_CLIENTS)]) for one in measured)
            above = [own - raw for own, raw in zip(seconds, least, strict=True)]
            numbers += [median(seconds), median(above)]
        yield ClientRow(scheme, name, *numbers)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.raw_clients")
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="rounds of each (default: 7)")
    add("--count", type=int, default=24, help="pieces of 8 MiB (default: 24)")
    add("--latency", type=float, default=0, help="milliseconds per request (default: 0)")
    add("--bandwidth", type=float, default=0, help="MB/s per connection (default: unlimited)")
    arguments = parser.parse_args(argv)
    # As in an IO worker; a setting of the process, so it applies to all clients.
    raise_trim_threshold()
    link = (arguments.latency / 1e3, arguments.bandwidth * 1e6)
    rows = list(compare(arguments.count, arguments.rounds, *link))
    print(aligned([ClientRow.headings, *(row.cells for row in rows)]))  # noqa: T201


if __name__ == "__main__":
    main()
