"""The contract on filesystems that need no cloud: memory, local directories, moto's S3."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fsspill.testing.contract import ExternalStorageContract


class TestMemory(ExternalStorageContract):
    @pytest.fixture
    def uri(self, memory_uri: str) -> str:
        return memory_uri


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


class Copied(ExternalStorageContract):
    """Restored from local copies, except where a test has altered the file in the storage."""

    @pytest.fixture(autouse=True)
    def _cache_dir(self, tmp_path: Path) -> None:
        self.cache_dir = tmp_path / "copies"
        self.cache_dir.mkdir()

    def storage_arguments(self) -> dict[str, Any]:
        copied = {"cache_dir": str(self.cache_dir), "cache_max_bytes": 2**30}
        return {**super().storage_arguments(), **copied}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Replace a file, without a copy of what it was."""
        super().write_at_rest(base_url, data)
        for copy in self.cache_dir.rglob("*-multi-*"):
            copy.unlink()


class TestCopiedMemory(Copied, TestMemory):
    pass


class TestCopiedS3(Copied, TestS3):
    pass


class TestCopiedS3ReadByTheFilesystem(Copied, TestS3ReadByTheFilesystem):
    pass


class Compressed(ExternalStorageContract):
    """Objects that compress to three quarters: they are stored compressed, and not much shorter."""

    codec = "zstd"
    _noise = random.Random(0).randbytes(256 * 2**10)

    @pytest.fixture(autouse=True)
    def _packages(self) -> None:
        pytest.importorskip("lz4")
        pytest.importorskip("zstandard")

    def storage_arguments(self) -> dict[str, Any]:
        return {"compression": self.codec}

    def make_data(self, number: int, size: int) -> bytes:
        noise, zeros = self._noise[: size * 3 // 4], bytes(size - size * 3 // 4)
        return (noise + zeros).translate(bytes(byte ^ number % 251 for byte in range(256)))

    def frame_of(self, at_rest: bytes, url: bytes) -> bytes:
        """Decompress the bytes with the codec's package alone, as the URL says."""
        parameters = dict(item.split("=") for item in url.decode().partition("?")[2].split("&"))
        if self.codec not in parameters:
            assert len(at_rest) < 8 * 2**10
            return at_rest
        length, *sizes = map(int, parameters[self.codec].split("."))
        assert sizes == [len(at_rest)]
        return decompress(self.codec, at_rest, length)


def decompress(codec: str, data: bytes, length: int) -> bytes:
    if codec == "lz4":
        import lz4.block

        found: bytes = lz4.block.decompress(data, uncompressed_size=length)
        return found
    import zstandard

    return zstandard.decompress(data)


class TestCompressedMemory(Compressed, TestMemory):
    pass


class TestCompressedSharedDirectory(Compressed, TestSharedDirectory):
    codec = "lz4"

    def storage_arguments(self) -> dict[str, Any]:
        return {"compression": self.codec, "shared": True}


class TestCompressedS3(Compressed, TestS3):
    pass


class TestCopiedCompressedMemory(Copied, TestCompressedMemory):
    pass


class TestCopiedCompressedS3(Copied, TestCompressedS3):
    pass
