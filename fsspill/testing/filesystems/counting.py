"""A filesystem that counts the operations and bytes of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsspill.testing.filesystems.forwarding import ForwardingFileSystem, Request

__all__ = ["CountingFileSystem"]


@dataclass
class _Counters:
    counts: Counter[str] = field(default_factory=Counter)
    bytes_written: int = 0
    bytes_read: int = 0


class CountingFileSystem(ForwardingFileSystem):
    """A filesystem that counts the operations of another one.

    Parameters
    ----------
    target_protocol : str
        Protocol of the wrapped filesystem, such as ``"s3"``.
    target_options : mapping, optional
        Options of that filesystem; defaults are those with which fsspill would use it.

    Raises
    ------
    ConfigError
        No target_protocol, or the target does not take these options.
    """

    protocol = "counting"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(target_protocol, target_options)
        self._counters = self._shared_state(_Counters, target_protocol, target_options)

    @property
    def counts(self) -> Counter[str]:
        """Calls of each of `OPERATIONS` and `FILE_OPERATIONS`, failed ones included."""
        return self._counters.counts

    @property
    def bytes_written(self) -> int:
        """Bytes that the target has accepted, in files and blocks of files; failures excluded."""
        return self._counters.bytes_written

    @property
    def bytes_read(self) -> int:
        """Bytes of file data in the target's answers."""
        return self._counters.bytes_read

    def reset(self) -> None:
        """Set all counts to zero."""
        self._counters.counts.clear()
        self._counters.bytes_written = self._counters.bytes_read = 0

    async def _before(self, request: Request) -> None:
        self._counters.counts[request.operation] += 1

    async def _after(self, request: Request) -> None:
        self._counters.bytes_written += request.sent
        self._counters.bytes_read += request.received
