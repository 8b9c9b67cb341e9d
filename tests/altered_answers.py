"""Filesystems with answers that a test chooses."""

from __future__ import annotations

import os
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem


def alter_s3_answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return altered answers to S3's calls, by name of the call; empty until the test adds some.

    Each is either an exception, or a function of the server's answer and of the arguments.
    """
    s3fs = pytest.importorskip("s3fs")
    altered: dict[str, Any] = {}
    call = s3fs.S3FileSystem._call_s3

    async def _call_s3(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        change = altered.get(method)
        if isinstance(change, Exception):
            raise change
        answer = await call(self, method, *args, **kwargs)
        return change(answer, **kwargs) if change else answer

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", _call_s3)
    return altered


def refuse_deletion(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of names: local files of these names cannot be deleted."""
    names: set[str] = set()
    remove = LocalFileSystem.rm_file

    def rm_file(self: Any, path: str) -> None:
        if os.path.basename(path) in names:
            raise PermissionError(path)
        remove(self, path)

    monkeypatch.setattr(LocalFileSystem, "rm_file", rm_file)
    return names
