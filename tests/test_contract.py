"""The contract on the filesystems that can be had without a cloud."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill.testing import ExternalStorageContract


class TestMemory(ExternalStorageContract):
    @pytest.fixture
    def uri(self) -> Iterator[str]:
        uri = f"memory://{uuid.uuid4().hex}"
        yield uri
        fsspec.filesystem("memory").store.clear()


class TestLocalDirectory(ExternalStorageContract):
    checked = False

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}"


class TestSharedDirectory(ExternalStorageContract):
    def storage_arguments(self) -> dict[str, Any]:
        return {"shared": True}

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}"


class TestS3(ExternalStorageContract):
    @pytest.fixture
    def uri(self, s3_bucket: str) -> str:
        return f"s3://{s3_bucket}/prefix"


class TestS3ReadByTheFilesystem(TestS3):
    def storage_arguments(self) -> dict[str, Any]:
        return {"engine": "fsspec"}
