"""Checks of every permission that spilling takes, one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fsspill.diagnosis.trial import Trial
from fsspill.diagnosis.verdict import (
    NOT_OF_THIS_STORAGE,
    Checklist,
    Finding,
    failed,
    ok,
    warning,
)
from fsspill.errors import FsspillError, StoragePermissionError
from fsspill.http_answer import HttpAnswer
from fsspill.storage.client import StorageClient
from fsspill.storage.small_files import is_listed

__all__ = ["check_permissions"]

_DATA = b"xy"
_SEVERAL = ("a", "b")
"""Names of files that are deleted together."""

_ACTIONS = {
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "ranged read": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
    "delete many": "s3:DeleteObject",
    "multipart": "s3:PutObject",
    "abort": "s3:AbortMultipartUpload",
    "list uploads": "s3:ListBucketMultipartUploads",
}
"""Permission of S3 that each check takes."""


def check_permissions(trial: Trial, checks: Checklist) -> None:
    """Check that files can be written, read, listed and deleted, alone, together and in parts.

    Parameters
    ----------
    trial : Trial
        The URI.
    checks : Checklist
        Gets the verdicts.

    Notes
    -----
    About 15 requests, on files of two bytes.
    """

    def run(name: str, check: Callable[[Trial], Finding], *needs: str) -> None:
        checks.run(name, partial(_naming_action, trial, name, check), needs=needs)

    run("write", _write, "filesystem")
    run("read", _read, "write")
    run("ranged read", _read_range, "read")
    run("list", _list, "write")
    run("delete", _delete, "write")
    run("delete many", _delete_many, "write")
    run("multipart", _upload, "write")
    run("abort", _abort, "multipart")
    run("list uploads", _list_uploads, "filesystem")


def _naming_action(trial: Trial, name: str, check: Callable[[Trial], Finding]) -> Finding:
    """Make a check, and add to a refusal which permission of S3 it takes."""
    try:
        return check(trial)
    except StoragePermissionError as error:
        # Without an answer it is about credentials that were not found.
        if trial.client.connection.traits.client != "s3" or not HttpAnswer.of(error):
            raise
        raise StoragePermissionError(f"{error} On S3 this takes {_ACTIONS[name]}.") from error


def _write(trial: Trial) -> Finding:
    try:
        trial.put("file", _DATA)
    except FsspillError:
        trial.discard("file")
        raise
    return ok(f"{len(_DATA)} bytes")


def _read(trial: Trial) -> Finding:
    file = trial.file("file")
    return _compare(trial.small_files.read(file, 9, "cannot read", trial.uri), _DATA)


def _read_range(trial: Trial) -> Finding:
    file = trial.file("file")
    found = trial.small_files.read(file, 1, "cannot read", trial.uri, start=1)
    trial.clients.check_engine(trial.location, trial.client.path(file), trial.seconds)
    return _compare(found, _DATA[1:])


def _compare(found: bytes, expected: bytes) -> Finding:
    if found == expected:
        return ok(f"{len(found)} of {len(_DATA)} bytes")
    return failed(
        f"asked for {expected!r} and found {found!r}",
        "Check the storage, and any proxy before it: it alters bytes, or ignores ranges.",
    )


def _list(trial: Trial) -> Finding:
    if is_listed(trial.small_files, trial.file("file"), "cannot list", trial.uri):
        return ok("the file is listed")
    return failed(
        f"no listing has the file that was written{_at(trial)}",
        "Use an endpoint that does not contain the bucket, and a storage that lists its files.",
    )


def _at(trial: Trial) -> str:
    server = trial.client.server
    return f" at {server}" if server else ""


def _delete(trial: Trial) -> Finding:
    trial.small_files.delete(trial.file("file"), "cannot delete", trial.uri)
    trial.forget("file")
    return ok("one file")


def _delete_many(trial: Trial) -> Finding:
    client = trial.client
    paths = [client.deletion_path(trial.put(name, _DATA)) for name in _SEVERAL]
    left = client.run(client.delete_with_retry, paths, len(paths), trial.seconds)
    for error in left.values():
        raise error
    for name in _SEVERAL:
        trial.forget(name)
    return ok(f"{len(paths)} files")


def _upload(trial: Trial) -> Finding:
    if not trial.client.has_multipart:
        return NOT_OF_THIS_STORAGE
    path = trial.client.path(trial.file("parts"))
    trial.ask(partial(_upload_part, path=path), "cannot upload in parts to")
    return ok("one part")


async def _upload_part(client: StorageClient, path: str) -> None:
    upload = await client.create_multipart(path)
    try:
        await upload.complete([await upload.put_part(1, _DATA)])
    except BaseException:
        await upload.abort()
        raise


def _abort(trial: Trial) -> Finding:
    path = trial.client.path(trial.location.probe_file("aborted"))
    left = trial.ask(partial(_begin_and_abort, path=path), "cannot abort an upload to")
    for error in left.values():
        return warning(
            str(error),
            "Allow s3:AbortMultipartUpload: parts of uploads that fail stay and are billed.",
        )
    return ok("one upload")


async def _begin_and_abort(client: StorageClient, path: str) -> dict[str, FsspillError]:
    upload = await client.create_multipart(path)
    return await client.abort_uploads([upload.target])


def _list_uploads(trial: Trial) -> Finding:
    if not trial.client.has_multipart:
        return NOT_OF_THIS_STORAGE
    directory = trial.client.root + trial.location.node_path
    try:
        found = trial.ask(lambda client: client.list_uploads(directory), "cannot list uploads of")
    except StoragePermissionError as error:
        if not HttpAnswer.of(error):
            raise
        return warning(
            str(error),
            "Allow s3:ListBucketMultipartUploads: 'fsspill clean' finds no incomplete uploads.",
        )
    return ok(f"{len(found)} incomplete")
