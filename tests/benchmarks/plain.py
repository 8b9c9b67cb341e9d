"""What one writes with s3fs, pyarrow or obstore alone, behind the methods that Ray calls.

Each does what its library makes easy, with the defaults of the library. What they leave out: a
digest of what they read, retries beyond the library's own, a bound on the memory that a batch takes
(every file is put together in memory first), what to do when a batch fails half-way.
"""

from __future__ import annotations

import asyncio
import io
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from fsspill.format.frame import HEADER_LENGTH, Frame, FrameHeader
from fsspill.format.planning import plan_files
from fsspill.format.url import create_url_with_offset, parse_url_with_offset
from fsspill.transfer.base import MIB
from tests.benchmarks.reused_store import ReusedStore

__all__ = ["ObstoreStorage", "PlainStorage", "PyarrowStorage", "S3fsStorage"]

_SIZE = 8 * MIB
"""Bytes that objects share a file up to, and of one range where the library takes a list."""


class PlainStorage(ABC):
    """Objects in fused files of up to 8 MiB, larger ones in files of their own, as in fsspill.

    Parameters
    ----------
    bucket : str
        Where the files lie.
    store : ReusedStore
        Where objects come from and go to.
    """

    def __init__(self, bucket: str, store: ReusedStore) -> None:
        self._bucket = bucket
        self._store = store

    def spill_objects(
        self, object_refs: Sequence[bytes], owner_addresses: Sequence[bytes]
    ) -> list[bytes]:
        """Store objects in fused files, and return a URL for each."""
        objects = zip(owner_addresses, self._store.get_if_local(object_refs), strict=True)
        frames = [Frame.of(owner, metadata, buffer) for owner, (buffer, metadata, _) in objects]
        files = {}
        urls: list[bytes] = []
        for objects_of_file in plan_files([frame.nbytes for frame in frames], _SIZE):
            path = f"{self._bucket}/{uuid.uuid4().hex}"
            files[path] = b"".join(_chunks(frames[objects_of_file]))
            urls += _urls(path, frames[objects_of_file])
        self.write(files)
        return urls

    def restore_spilled_objects(
        self, object_refs: Sequence[bytes], url_with_offset_list: Sequence[bytes]
    ) -> int:
        """Read objects back, and return how many bytes they have."""
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
        """Delete the files of these URLs."""
        self.remove(list({parse_url_with_offset(url.decode()).base_url for url in urls}))

    @abstractmethod
    def write(self, files: Mapping[str, bytes]) -> None:
        """Store files."""

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> bytes:
        """Return some bytes of a file."""

    @abstractmethod
    def remove(self, paths: Sequence[str]) -> None:
        """Delete files."""


class S3fsStorage(PlainStorage):
    """With s3fs: all files in one call, ranges of 8 MiB in one call."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        import s3fs

        super().__init__(bucket, store)
        self._fs = s3fs.S3FileSystem(endpoint_url=endpoint_url)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Store files side by side."""
        self._fs.pipe(dict(files))

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read ranges side by side."""
        starts = list(range(start, stop, _SIZE))
        paths, stops = [path] * len(starts), [*starts[1:], stop]
        return b"".join(self._fs.cat_ranges(paths, starts, stops, on_error="raise"))

    def remove(self, paths: Sequence[str]) -> None:
        """Delete in bulk."""
        self._fs.rm(list(paths))


class PyarrowStorage(PlainStorage):
    """With pyarrow.fs: files from a few threads, each object with one read."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        from pyarrow.fs import S3FileSystem

        super().__init__(bucket, store)
        address = urlsplit(endpoint_url).netloc
        # With a region it does not ask for that of the bucket.
        self._fs = S3FileSystem(endpoint_override=address, scheme="http", region="us-east-1")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Store files from Python's default number of threads."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._write_one, files.items()))

    def _write_one(self, file: tuple[str, bytes]) -> None:
        path, data = file
        with self._fs.open_output_stream(path) as stream:
            stream.write(data)

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Open the file, which asks for its length, and read once."""
        with self._fs.open_input_file(path) as file:
            data: bytes = file.read_at(stop - start, start)
        return data

    def remove(self, paths: Sequence[str]) -> None:
        """Delete one file after another: there is no bulk deletion of files."""
        for path in paths:
            self._fs.delete_file(path)


class ObstoreStorage(PlainStorage):
    """With obstore: files side by side, each object with one range."""

    def __init__(self, bucket: str, store: ReusedStore, endpoint_url: str) -> None:
        from obstore.store import S3Store

        super().__init__(bucket, store)
        self._s3 = S3Store(
            bucket,
            endpoint=endpoint_url,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def write(self, files: Mapping[str, bytes]) -> None:
        """Store files side by side, and the parts of each too."""
        asyncio.run(self._write_all(files))

    async def _write_all(self, files: Mapping[str, bytes]) -> None:
        puts = (self._s3.put_async(self._key(path), data) for path, data in files.items())
        await asyncio.gather(*puts)

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read one range: it would make one request of several that touch."""
        return bytes(self._s3.get_range(self._key(path), start=start, end=stop))

    def remove(self, paths: Sequence[str]) -> None:
        """Delete in bulk."""
        self._s3.delete([self._key(path) for path in paths])

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._bucket}/")


def _chunks(frames: Sequence[Frame]) -> list[bytes | memoryview]:
    return [chunk for frame in frames for chunk in frame.buffers()]


def _urls(path: str, frames: Sequence[Frame]) -> list[bytes]:
    urls, offset = [], 0
    for frame in frames:
        urls.append(create_url_with_offset(url=path, offset=offset, size=frame.nbytes).encode())
        offset += frame.nbytes
    return urls
