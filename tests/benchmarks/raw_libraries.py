"""External storages written with bare s3fs, pyarrow or obstore.

Each uses the straightforward calls of its library, with the library's defaults. They lack digests
of the data read, retries beyond the library's own, a bound on the memory of a batch (every file is
assembled in memory first), and a clean-up after a batch that fails half-way.
"""

from __future__ import annotations

import asyncio
import io
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspill.bench.reused_store import ReusedStore
from fsspill.format.frame import HEADER_LENGTH, Frame, FrameHeader
from fsspill.format.planning import plan_files
from fsspill.format.url import create_url_with_offset, parse_url_with_offset
from fsspill.settings import MIB

__all__ = ["LibraryStorage", "ObstoreStorage", "PyarrowStorage", "S3fsStorage", "client_options"]

_MAX_SIZE = 8 * MIB
"""Maximum bytes of a fused file, and of one range where the library takes a list of ranges."""


class LibraryStorage(ABC):
    """A storage of objects in fused files of up to 8 MiB, larger ones in their own, as in fsspill.

    Parameters
    ----------
    bucket : str
        Bucket of the files.
    store : ReusedStore
        Object store to spill from and restore to.
    """

    def __init__(self, bucket: str, store: ReusedStore) -> None:
        self._bucket = bucket
        self._store = store

    def spill_objects(
        self, object_refs: Sequence[bytes], owner_addresses: Sequence[bytes]
    ) -> list[bytes]:
        """Write objects to fused files, and return a URL for each object."""
        objects = zip(owner_addresses, self._store.get_if_local(object_refs), strict=True)
        frames = [Frame.of(owner, metadata, buffer) for owner, (buffer, metadata, _) in objects]
        files = {}
        urls: list[bytes] = []
        for objects_of_file in plan_files([frame.nbytes for frame in frames], _MAX_SIZE):
            path = f"{self._bucket}/{uuid.uuid4().hex}"
            files[path] = b"".join(_chunks(frames[objects_of_file]))
            urls += _urls(path, frames[objects_of_file])
        self.write(files)
        return urls

    def restore_spilled_objects(
        self, object_refs: Sequence[bytes], url_with_offset_list: Sequence[bytes]
    ) -> int:
        """Read objects, and return the total size of their buffers."""
        count = 0
        for ref, url in zip(object_refs, url_with_offset_list, strict=True):
            path, offset, size = parse_url_with_offset(url.decode())
            stream = io.BytesIO(self.read(path, offset, offset + size))
            header = FrameHeader.unpack(stream.read(HEADER_LENGTH), size=size, url=path)
            owner_address = stream.read(header.address_length)
            metadata = stream.read(header.metadata_length)
            length = header.buffer_length
            self._store.put_file_like_object(metadata, length, stream, ref, owner_address)
            count += length
        return count

    def delete_spilled_objects(self, urls: Sequence[bytes]) -> None:
        """Delete the files of URLs."""
        self.remove(list({parse_url_with_offset(url.decode()).base_url for url in urls}))

    @abstractmethod
    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files."""

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> bytes:
        """Return a range of a file."""

    @abstractmethod
    def remove(self, paths: Sequence[str]) -> None:
        """Delete files."""


class S3fsStorage(LibraryStorage):
    """A storage on s3fs: all files in one call, ranges of 8 MiB in one call."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        import s3fs

        super().__init__(bucket, store)
        self._fs = s3fs.S3FileSystem(endpoint_url=endpoint_url)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files concurrently."""
        self._fs.pipe(dict(files))

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read ranges concurrently."""
        starts = list(range(start, stop, _MAX_SIZE))
        paths, stops = [path] * len(starts), [*starts[1:], stop]
        return b"".join(self._fs.cat_ranges(paths, starts, stops, on_error="raise"))

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files in bulk."""
        self._fs.rm(list(paths))


class PyarrowStorage(LibraryStorage):
    """A storage on pyarrow.fs: files from several threads, each object with one read."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        from pyarrow.fs import S3FileSystem

        super().__init__(bucket, store)
        url = urlsplit(endpoint_url)
        self._fs = S3FileSystem(
            endpoint_override=url.netloc,
            scheme=url.scheme,
            # A given region saves the request for that of the bucket.
            region="us-east-1",
            tls_ca_file_path=_bundle(),
        )

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files from Python's default number of threads."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._write_one, files.items()))

    def _write_one(self, file: tuple[str, bytes]) -> None:
        path, data = file
        with self._fs.open_output_stream(path) as stream:
            stream.write(data)

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Open the file, which requests its length, and read once."""
        with self._fs.open_input_file(path) as file:
            data: bytes = file.read_at(stop - start, start)
        return data

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files sequentially: pyarrow.fs has no bulk deletion of files."""
        for path in paths:
            self._fs.delete_file(path)


class ObstoreStorage(LibraryStorage):
    """A storage on obstore: files concurrently, each object with one range."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        from obstore.store import S3Store

        super().__init__(bucket, store)
        self._s3 = S3Store(
            bucket,
            endpoint=endpoint_url,
            region="us-east-1",
            client_options=client_options(),
        )

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files concurrently, as well as the parts of each."""
        asyncio.run(self._write_all(files))

    async def _write_all(self, files: Mapping[str, bytes]) -> None:
        puts = (self._s3.put_async(self._key(path), data) for path, data in files.items())
        await asyncio.gather(*puts)

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read one range: obstore would merge adjacent ranges into one request."""
        return bytes(self._s3.get_range(self._key(path), start=start, end=stop))

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files in bulk."""
        self._s3.delete([self._key(path) for path in paths])

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._bucket}/")


def client_options() -> dict[str, Any]:
    """Return obstore's options for the server of the environment; it reads no variable for them."""
    bundle = _bundle()
    trust = {"root_certificate": Path(bundle).read_bytes()} if bundle else {}
    return {"allow_http": True, **trust}


def _bundle() -> str | None:
    return os.environ.get("AWS_CA_BUNDLE")


def _chunks(frames: Sequence[Frame]) -> list[bytes | memoryview]:
    return [chunk for frame in frames for chunk in frame.buffers()]


def _urls(path: str, frames: Sequence[Frame]) -> list[bytes]:
    urls, offset = [], 0
    for frame in frames:
        urls.append(create_url_with_offset(url=path, offset=offset, size=frame.nbytes).encode())
        offset += frame.nbytes
    return urls
