"""Deleting many things, with an answer for each: s3fs's bulk deletion hides what is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fsspill.errors import (
    FsspillError,
    StorageUnavailableError,
    format_seconds,
    is_missing,
    is_transient,
    translate,
)
from fsspill.settings import Settings
from fsspill.storage.connection import Endpoint
from fsspill.storage.retry import backoff

__all__ = [
    "abort_uploads",
    "delete_once",
    "delete_with_retry",
    "list_uploads",
    "remove_directories",
    "remove_file",
]

logger = logging.getLogger(__name__)

_BULK = 1000  # S3's limit


async def delete_with_retry(
    endpoint: Endpoint, paths: Sequence[str], limits: Settings, seconds: float
) -> dict[str, FsspillError]:
    """Delete files, and again what may yet be deleted, for so many seconds at most.

    Returns what `delete_once` does. A pass that takes longer than half of the time is given up
    and made again: the requests of the other half may be answered.
    """
    failures: dict[str, FsspillError] = dict.fromkeys(paths, _not_deleted(endpoint, seconds))

    async def remove() -> None:
        for pause in backoff():
            deletion = delete_once(endpoint, list(failures), limits.max_requests_in_flight)
            try:
                found = await asyncio.wait_for(deletion, seconds / 2)
            except asyncio.TimeoutError:
                continue
            failures.clear()
            failures.update(found)
            if not any(is_transient(failure) for failure in failures.values()):
                return
            await asyncio.sleep(pause)

    try:
        await asyncio.wait_for(remove(), seconds)
    except asyncio.TimeoutError:
        pass  # failures says what remains
    return failures


def _not_deleted(endpoint: Endpoint, seconds: float) -> FsspillError:
    return StorageUnavailableError(
        f"cannot delete files under {endpoint.root}: no answer within "
        f"{format_seconds(seconds)}. Expected the storage to answer: check the endpoint and the "
        "network."
    )


async def remove_file(endpoint: Endpoint, path: str) -> None:
    """Delete one file with a request of its own; one that is already gone is fine."""
    try:
        await endpoint.fs._rm_file(path)
    except Exception as error:
        if not is_missing(error):
            raise


async def delete_once(
    endpoint: Endpoint, paths: Sequence[str], max_requests: int
) -> dict[str, FsspillError]:
    """Delete files; those that are already gone are fine.

    Parameters
    ----------
    endpoint : Endpoint
        The filesystem of all paths.
    paths : sequence of str
        Files, never patterns. They may lie in several buckets.
    max_requests : int
        Requests at once; filesystems that are not concurrent get one at a time.

    Returns
    -------
    dict
        The paths of files that may still be there, and why. Never raises.

    Notes
    -----
    S3: one request for 1000 files of a bucket. Where the server does not take that request, and
    on other filesystems, one for each file.
    """
    slots = asyncio.Semaphore(max_requests if endpoint.concurrent else 1)
    if not endpoint.traits.s3_api:
        return await _delete_each(endpoint, paths, slots)
    batches = _batches(endpoint, paths)
    outcomes = await asyncio.gather(*(_delete_bulk(endpoint, *b, slots) for b in batches))
    return {path: error for failures in outcomes for path, error in failures.items()}


async def list_uploads(endpoint: Endpoint, directory: str) -> list[dict[str, Any]]:
    """Return what S3 says of each incomplete multipart upload below a directory.

    Raises what the filesystem raises. One request for 1000 of them.
    """
    bucket, key, _ = endpoint.fs.split_path(directory)
    where = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    found: list[dict[str, Any]] = []
    more = True
    while more:
        answer = await endpoint.fs._call_s3("list_multipart_uploads", **where)
        found += [{**upload, "Bucket": bucket} for upload in answer.get("Uploads", [])]
        more = answer.get("IsTruncated", False)
        where["KeyMarker"] = answer.get("NextKeyMarker", "")
        where["UploadIdMarker"] = answer.get("NextUploadIdMarker", "")
    return found


async def abort_uploads(
    endpoint: Endpoint, uploads: Sequence[Mapping[str, str]]
) -> dict[str, FsspillError]:
    """Abort multipart uploads of S3; those that have ended are fine.

    Parameters
    ----------
    endpoint : Endpoint
        A filesystem with S3's API.
    uploads : sequence of mapping
        Bucket, Key and UploadId of each; what else `list_uploads` says of them is passed over.

    Returns
    -------
    dict
        The paths of uploads that may still be there, and why. Never raises.

    Notes
    -----
    One request for each, one after another.
    """
    failures: dict[str, FsspillError] = {}
    for upload in uploads:
        try:
            request = {name: upload[name] for name in ("Bucket", "Key", "UploadId")}
            await endpoint.fs._call_s3("abort_multipart_upload", **request)
        except Exception as error:
            if not is_missing(error):
                path = f"{upload['Bucket']}/{upload['Key']}"
                failures[path] = translate(error, "cannot abort the upload of", path)
    return failures


async def remove_directories(endpoint: Endpoint, paths: Sequence[str]) -> None:
    """Remove directories that are empty, in this order, where there are directories at all.

    Never raises: one that is not empty stays.
    """
    for path in paths if endpoint.traits.has_directories else ():
        try:
            await endpoint.fs._rmdir(path)
        except Exception as error:
            logger.debug("the directory %s stays: %s", path, error)


def _batches(endpoint: Endpoint, paths: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield buckets with up to 1000 of their files, as paths by key."""
    buckets: dict[str, dict[str, str]] = {}
    for path in paths:
        bucket, key, _ = endpoint.fs.split_path(path)
        buckets.setdefault(bucket, {})[key] = path
    for bucket, by_key in buckets.items():
        keys = list(by_key)
        for start in range(0, len(keys), _BULK):
            yield bucket, {key: by_key[key] for key in keys[start : start + _BULK]}


async def _delete_bulk(
    endpoint: Endpoint, bucket: str, by_key: Mapping[str, str], slots: asyncio.Semaphore
) -> dict[str, FsspillError]:
    # Not the filesystem's own bulk deletion: s3fs drops the errors of single keys.
    delete = {"Objects": [{"Key": key} for key in by_key], "Quiet": True}
    try:
        async with slots:
            answer = await endpoint.fs._call_s3("delete_objects", Bucket=bucket, Delete=delete)
    except Exception:
        return await _delete_each(endpoint, list(by_key.values()), slots)
    refusals = {by_key[refusal["Key"]]: _refused(refusal) for refusal in answer.get("Errors", [])}
    return {
        path: translate(error, "cannot delete", path)
        for path, error in refusals.items()
        if not is_missing(error)
    }


def _refused(refusal: Mapping[str, str]) -> Exception:
    """Return the error that s3fs would raise for a refusal of this code."""
    from s3fs.errors import ERROR_CODE_TO_EXCEPTION

    code = refusal.get("Code", "")
    error: Exception = ERROR_CODE_TO_EXCEPTION.get(code, OSError)(refusal.get("Message", code))
    return error


async def _delete_each(
    endpoint: Endpoint, paths: Sequence[str], slots: asyncio.Semaphore
) -> dict[str, FsspillError]:
    outcomes = await asyncio.gather(*(_delete_one(endpoint, path, slots) for path in paths))
    return {path: error for path, error in zip(paths, outcomes, strict=True) if error}


async def _delete_one(
    endpoint: Endpoint, path: str, slots: asyncio.Semaphore
) -> FsspillError | None:
    async with slots:
        try:
            await remove_file(endpoint, path)
        except Exception as error:
            return translate(error, "cannot delete", path)
    return None
