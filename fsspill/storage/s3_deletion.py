"""Deletion of many files of S3 by one request.

s3fs hides which keys such a deletion refused, and takes an empty answer for success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from fsspill.errors import FsspillError, StorageRefusedError, is_missing, translate
from fsspill.http_answer import HttpAnswer
from fsspill.log import get_logger
from fsspill.storage.internals import s3_client_meta
from fsspill.storage.s3_versions import ObjectVersions
from fsspill.storage.throttle import Throttle

__all__ = ["BulkDeletion"]

logger = get_logger(__name__)

_BULK = 1000  # S3's limit

_Object: TypeAlias = "tuple[str, str]"
"""A key, and a version or ""."""

_Batch: TypeAlias = "dict[_Object, str]"
"""Paths of files by object; several versions of a file are several objects."""

_WITHOUT_BULK: set[str] = set()
"""Endpoints of servers that have refused such requests, and deleted the same files one by one."""


class BulkDeletion:
    """Deletion of up to 1000 objects of a bucket by one request.

    Parameters
    ----------
    fs : s3fs.S3FileSystem
        The filesystem.
    versions : ObjectVersions
        The versions that a deletion has to name.
    throttle : Throttle
        Limit of the node's requests, which files that are refused as too many set.
    """

    def __init__(self, fs: Any, versions: ObjectVersions, throttle: Throttle) -> None:
        self._fs = fs
        self._throttle = throttle
        self._versions = versions
        self._is_doubtful = False

    async def delete(
        self, paths: Sequence[str], slots: asyncio.Semaphore, failures: dict[str, FsspillError]
    ) -> list[str]:
        """Delete files, and keep `failures` up to date with each answer.

        Returns
        -------
        list of str
            The files of which no answer tells anything: to be deleted one by one.
        """
        if self._endpoint in _WITHOUT_BULK:
            return list(paths)
        batches = [self._delete(*batch, slots, failures) for batch in self._batches(paths)]
        unknown: set[str] = set().union(*await asyncio.gather(*batches))
        return [path for path in paths if path in unknown]

    def note_single_deletions(self, *, succeeded: bool) -> None:
        """Take note of how the deletion went of the files that `delete` has returned."""
        if succeeded and self._is_doubtful and self._endpoint:
            logger.info("%s has no bulk deletion: files are deleted one by one", self._endpoint)
            _WITHOUT_BULK.add(self._endpoint)
        self._is_doubtful = False

    @property
    def _endpoint(self) -> str:
        meta = s3_client_meta(self._fs)
        return str(meta.endpoint_url) if meta else ""

    def _batches(self, paths: Sequence[str]) -> Iterator[tuple[str, _Batch]]:
        """Yield buckets with up to 1000 objects in them, as the paths of files by object."""
        batches: dict[str, _Batch] = {}
        for path in paths:
            name, versions = self._versions.split(path)
            bucket, key, _ = self._fs.split_path(name)
            batch = batches.setdefault(bucket, {})
            # The versions of a file are deleted together; of more than 1000, the rest next time.
            objects = dict.fromkeys([(key, version) for version in versions[:_BULK]], path)
            if len(batch) + len(objects) > _BULK:
                yield bucket, batches.pop(bucket)
                batch = batches.setdefault(bucket, {})
            batch |= objects
        yield from batches.items()

    async def _delete(
        self,
        bucket: str,
        batch: _Batch,
        slots: asyncio.Semaphore,
        failures: dict[str, FsspillError],
    ) -> set[str]:
        """Delete objects of one bucket; return the paths of which the answer tells nothing."""
        # Not quiet: an answer that is empty has deleted nothing.
        objects = [
            {"Key": key, "VersionId": version} if version else {"Key": key}
            for key, version in batch
        ]
        try:
            async with slots:
                sent = self._throttle.clock()
                answer = await self._fs._call_s3(
                    "delete_objects", Bucket=bucket, Delete={"Objects": objects}
                )
            deleted, refused = _parse(answer, batch)
        except Exception as error:
            # Also where the answer does not say of which file an error is.
            failure = translate(error, "cannot delete files of", bucket)
            self._is_doubtful |= isinstance(failure, StorageRefusedError)
            return set(batch.values())
        if any(map(_is_slow_down, answer.get("Errors") or [])):
            self._throttle.note("throttled", sent)  # each file counts as a request
        hidden = self._note(answer, batch)
        if any(
            version and self._versions.is_denied(error) for (_, version), error in refused.items()
        ):
            plain = {(key, ""): path for (key, _), path in batch.items()}
            self._versions.are_deletable = False
            left = await self._delete(bucket, plain, slots, failures)
            # Refused that too: see `ObjectVersions.left_alone`.
            self._versions.are_deletable = bool(left or failures.keys() & set(plain.values()))
            return left
        self._is_doubtful |= not deleted and not refused
        return self._take(batch, deleted - hidden, refused, failures)

    def _note(self, answer: Mapping[str, Any], batch: _Batch) -> set[_Object]:
        """Note what an answer says of versions; return the objects that it has only hidden.

        Their versions are found and deleted one by one: an attempt to write that failed, or whose
        answer was lost, has left versions that no answer named.
        """
        marked = {
            entry["Key"] for entry in answer.get("Deleted") or [] if entry.get("DeleteMarker")
        }
        self._versions.note({"DeleteMarker": bool(marked)})
        if not self._versions.are_listed:
            return set()
        return {(key, version) for key, version in batch if key in marked and not version}

    def _take(
        self,
        batch: _Batch,
        deleted: set[_Object],
        refused: Mapping[_Object, Exception],
        failures: dict[str, FsspillError],
    ) -> set[str]:
        """Keep `failures` up to date; return the paths of which the answer tells nothing."""
        failed = {
            batch[named]: error
            for named, error in refused.items()
            if not is_missing(error, batch[named])
        }
        answered = deleted | refused.keys()
        unknown = {path for named, path in batch.items() if named not in answered} - failed.keys()
        for path in set(batch.values()) - unknown:
            if path in failed:
                failures[path] = translate(failed[path], "cannot delete", path)
            else:
                self._versions.forget(path)
                failures.pop(path, None)
        return unknown


def _parse(
    answer: Mapping[str, Any], batch: _Batch
) -> tuple[set[_Object], dict[_Object, Exception]]:
    """Return the objects that a bulk deletion has deleted, and the errors of those it refused.

    Raises
    ------
    KeyError
        The answer has an error that names none of the objects.
    """
    refused = {}
    for refusal in answer.get("Errors") or []:
        named = refusal["Key"], refusal.get("VersionId") or ""
        if named not in batch:
            [named] = [each for each in batch if each[0] == refusal["Key"]]
        refused[named] = _refusal_error(refusal)
    keys = {entry["Key"] for entry in answer.get("Deleted") or []}
    return {named for named in batch if named[0] in keys} - refused.keys(), refused


def _is_slow_down(refusal: Mapping[str, str]) -> bool:
    return HttpAnswer(200, str(refusal.get("Code"))).is_slow_down


def _refusal_error(refusal: Mapping[str, str]) -> Exception:
    """Return the error that s3fs would raise for a refusal of this code."""
    from s3fs.errors import ERROR_CODE_TO_EXCEPTION

    code = refusal.get("Code") or "no code"
    message = refusal.get("Message") or code
    error: Exception = ERROR_CODE_TO_EXCEPTION.get(code, OSError)(message)
    return error
