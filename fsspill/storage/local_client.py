"""Operations on a local directory in which other users may be able to write, for clean-up."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fsspec import AbstractFileSystem

from fsspill.errors import translate
from fsspill.log import get_logger
from fsspill.storage.client import StorageClient
from fsspill.storage.connection import Connection
from fsspill.storage.local_files import open_directory, open_file, remove_file
from fsspill.storage.meter import Meter
from fsspill.storage.mount import Mount, moved

__all__ = ["LocalClient"]

logger = get_logger(__name__)

T = TypeVar("T")

STALL_TIMEOUT = 30.0
"""Seconds that clean-up waits for a directory that does not answer: the default of spills."""


class LocalClient(StorageClient):
    """A client that reads and removes nothing outside of its directory, and waits for no mount.

    Another user may replace a directory that was listed with a link, before the files in it are
    removed. See `fsspill.storage.local_files`, and `fsspill.storage.mount` for a directory that
    does not answer.
    """

    def __init__(self, connection: Connection, meter: Meter | None = None) -> None:
        super().__init__(connection, meter)
        self._mount = Mount(self.root, STALL_TIMEOUT)

    async def create(self, path: str, body: Any) -> str:
        """Store a body as a file in a directory that exists; there are no versions."""
        remove = partial(remove_file, self.root, self._below(path))
        await self._call(self.connection.sync_fs.pipe_file, path, body, undo=remove)
        return ""

    async def read(self, path: str, nbytes: int, start: int = 0) -> bytes:
        """Return so many bytes of a file from `start`, or fewer at its end."""

        def read() -> bytes:
            with open(open_file(self.root, self._below(path)), "rb") as file:
                file.seek(start)
                return file.read(nbytes)

        return await self._call(read)

    async def size(self, path: str) -> int:
        """Return the length of a file in bytes. Raises IsADirectoryError if it is none."""

        def size() -> int:
            with open(open_file(self.root, self._below(path)), "rb", buffering=0) as file:
                found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            return found.st_size

        return await self._call(size)

    async def list_directory(self, directory: str) -> dict[str, Mapping[str, Any]]:
        """Return the files and directories in one directory, by path; none if it is not there."""
        return await self._call(_list, self.connection.sync_fs, directory.rstrip("/") or "/")

    async def delete_file(self, path: str) -> None:
        """Delete one file; one that is already gone is fine."""
        await self._call(remove_file, self.root, self._below(path))

    async def remove_directories(self, paths: Sequence[str]) -> None:
        """Remove directories that are empty, in this order. Never raises."""
        for path in paths:
            try:
                await self._call(self._remove_directory, self._below(path))
            except OSError as error:
                logger.debug("the directory %s stays: %s", path, error)

    async def _call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        undo: Callable[[], object] | None = None,
    ) -> T:
        call = partial(self._mount.call, function, *arguments, undo=undo)
        try:
            return await asyncio.to_thread(call)
        except TimeoutError as error:
            # fsspec would drop the text.
            raise translate(error, "cannot use", self.root) from error

    def _remove_directory(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        with open_directory(self.root, parent) as directory:
            directory.remove_empty_directory(name)

    def _below(self, path: str) -> str:
        return path.removeprefix(self.root)


def _list(fs: AbstractFileSystem, directory: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # it has just been removed
                found[entry.path] = fs.info(entry)
            moved()
    return found
