"""Files in storage, listed without fsspill."""

from __future__ import annotations

from pathlib import Path

import fsspec


def keys(bucket: str = "bucket") -> list[str]:
    """Return every key of a bucket of the S3 server."""
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    found: list[str] = fs.find(bucket)
    return found


def spilled(bucket: str = "bucket") -> list[str]:
    """Return the keys of a bucket that are not heartbeats."""
    return [key for key in keys(bucket) if "/fsspill_heartbeats/" not in key]


def open_uploads(bucket: str = "bucket") -> list[str]:
    """Return the key of every multipart upload that is neither completed nor aborted."""
    answer = fsspec.filesystem("s3").call_s3("list_multipart_uploads", Bucket=bucket)
    return sorted(upload["Key"] for upload in answer.get("Uploads", []))


def files(directory: Path) -> list[Path]:
    """Return every file below a directory."""
    return [path for path in directory.rglob("*") if path.is_file()]
