"""Operations on a local directory in which other users may be able to write, for clean-up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fsspill.log import get_logger
from fsspill.storage.client import StorageClient
from fsspill.storage.local_files import open_directory, open_file, remove_file

__all__ = ["LocalClient"]

logger = get_logger(__name__)


class LocalClient(StorageClient):
    """A client that reads and removes nothing outside of its directory.

    Another user may replace a directory that was listed with a link, before the files in it are
    removed. See `fsspill.storage.local_files`.
    """

    async def read(self, path: str, nbytes: int, start: int = 0) -> bytes:
        """Return so many bytes of a file from `start`, or fewer at its end."""

        def read() -> bytes:
            with open(open_file(self.root, self._below(path)), "rb") as file:
                file.seek(start)
                return file.read(nbytes)

        return await asyncio.to_thread(read)

    async def delete_file(self, path: str) -> None:
        """Delete one file; one that is already gone is fine."""
        await asyncio.to_thread(remove_file, self.root, self._below(path))

    async def remove_directories(self, paths: Sequence[str]) -> None:
        """Remove directories that are empty, in this order. Never raises."""
        for path in paths:
            try:
                await asyncio.to_thread(self._remove_directory, self._below(path))
            except OSError as error:
                logger.debug("the directory %s stays: %s", path, error)

    def _remove_directory(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        with open_directory(self.root, parent) as directory:
            directory.remove_empty_directory(name)

    def _below(self, path: str) -> str:
        return path.removeprefix(self.root)
