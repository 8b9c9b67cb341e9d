"""Writes of many buffers."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import pytest

from fsspill.storage.gathered_write import write_buffers
from fsspill.storage.mount import BLOCK_SIZE


def test_consecutive_buffers_are_written_where_the_file_is(tmp_path: Path) -> None:
    """Large and empty ones, more than a system call takes, at any place of the file."""
    buffers = [os.urandom(2 * BLOCK_SIZE + 3), b"", *[b"%d" % (n % 10) for n in range(3000)]]
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        file.seek(5)
        assert write_buffers(file.fileno(), iter(buffers)) == 2 * BLOCK_SIZE + 3003
    assert path.read_bytes() == bytes(5) + b"".join(buffers)


def test_a_deque_ends_the_write_when_it_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else has it takes back what is not written yet."""
    views: deque[bytes | memoryview] = deque([b"a" * BLOCK_SIZE, b"b" * BLOCK_SIZE])
    writev = os.writev

    def clear(fd: int, buffers: list[memoryview]) -> int:
        views.clear()
        return writev(fd, buffers)

    monkeypatch.setattr(os, "writev", clear)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        assert write_buffers(file.fileno(), views) == BLOCK_SIZE
