"""Filesystems with answers that a test chooses."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill.storage.local_files import OpenDirectory


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
    remove = OpenDirectory.remove

    def refuse(self: OpenDirectory, name: str) -> bool:
        if name in names:
            raise PermissionError(name)
        return remove(self, name)

    monkeypatch.setattr(OpenDirectory, "remove", refuse)
    return names
