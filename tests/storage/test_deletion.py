"""Deletion of many files, with an answer for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import FsspillError, StoragePermissionError, StorageUnavailableError
from fsspill.storage import s3
from fsspill.storage.client_pool import open_client
from fsspill.testing.s3_server import S3Server
from tests.altered_answers import alter_s3_answers, refuse_deletion
from tests.at_rest import files, keys


@pytest.fixture
def s3_answers(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the altered answers to S3's calls, by name."""
    return alter_s3_answers(monkeypatch)


def delete(uri: str, paths: Sequence[str]) -> dict[str, FsspillError]:
    client = open_client(uri, {})
    return client.run(client.delete, paths, 8)


def put(bucket: str, *keys: str) -> None:
    fsspec.filesystem("s3").pipe({f"{bucket}/{key}": b"abc" for key in keys})


def test_files_are_deleted_in_batches_of_one_bucket(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request deletes as many files of a bucket as S3 takes, missing ones included."""
    monkeypatch.setattr(s3, "_BULK", 4)
    s3_server.create_bucket("second")
    names = [f"f{number}" for number in range(10)]
    for bucket in ("bucket", "second"):
        put(bucket, *names)
    before = len(s3_server.requests())
    paths = [f"{bucket}/{name}" for name in [*names, "missing"] for bucket in ("bucket", "second")]
    assert delete("s3://bucket", paths) == {}
    assert [request.method for request in s3_server.requests()[before:]] == ["POST"] * 6
    assert keys("bucket") == keys("second") == []


def test_refusals_of_single_files_are_reported(s3_answers: dict[str, Any]) -> None:
    """S3 answers a bulk deletion with success and a list of refusals."""
    put("bucket", "p/a", "p/b", "p/c", "p/d")

    def refuse(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        codes = {"p/a": "AccessDenied", "p/b": "SlowDown", "p/c": "NoSuchKey", "p/d": "NewCode"}
        errors = [{"Key": key, "Code": code, "Message": "m"} for key, code in codes.items()]
        return {**answer, "Errors": errors}

    s3_answers["delete_objects"] = refuse
    failures = delete("s3://bucket/p", [f"bucket/p/{name}" for name in "abcd"])
    assert {path: type(error) for path, error in failures.items()} == {
        "bucket/p/a": StoragePermissionError,
        "bucket/p/b": StorageUnavailableError,
        "bucket/p/d": StorageUnavailableError,
    }


@pytest.mark.parametrize(
    "errors",
    [
        None,
        [],
        [{}],
        [{"Code": "AccessDenied"}],
        [{"Key": None, "Code": "AccessDenied", "Message": "m"}],
        [{"Key": "p/unknown", "Code": "AccessDenied"}],
        [{"Key": "p/a"}, {"Code": "SlowDown"}],
        ["<html>"],
        "<html>",
        17,
    ],
)
def test_answers_of_no_known_shape_lose_no_file(s3_answers: dict[str, Any], errors: Any) -> None:
    """Where an answer does not say of which file an error is, each file is asked for by itself."""
    put("bucket", "p/a", "p/b")
    asked: list[str] = []

    def answer_only(answer: dict[str, Any], **kwargs: Any) -> Any:
        return {"Errors": errors}

    def record(answer: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["Key"])
        return answer

    s3_answers["delete_objects"] = answer_only
    s3_answers["delete_object"] = record
    assert delete("s3://bucket/p", ["bucket/p/a", "bucket/p/b"]) == {}
    assert sorted(asked) == ([] if not errors else ["p/a", "p/b"])
    assert keys() == []


@pytest.mark.parametrize("answer", [None, "<html>", [], 3])
def test_an_answer_that_is_no_answer_is_not_believed(
    s3_answers: dict[str, Any], answer: Any
) -> None:
    """A proxy's page with status 200 deletes nothing."""
    put("bucket", "p/a")
    s3_answers["delete_objects"] = lambda _, **kwargs: answer
    assert delete("s3://bucket/p", ["bucket/p/a"]) == {}
    assert keys() == []


def test_a_refusal_without_code_and_message_is_reported(s3_answers: dict[str, Any]) -> None:
    """The file may still be there, which is all that is known."""
    put("bucket", "p/a")
    s3_answers["delete_objects"] = lambda _, **kwargs: {"Errors": [{"Key": "p/a"}]}
    assert list(delete("s3://bucket/p", ["bucket/p/a"])) == ["bucket/p/a"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Uploads": None},
        {"Uploads": [{}, {"Key": "p/x"}, {"UploadId": "1"}]},
        {"IsTruncated": True},
        {"IsTruncated": True, "NextKeyMarker": "", "Uploads": []},
        {"IsTruncated": True, "NextKeyMarker": "p/x", "NextUploadIdMarker": "1"},
    ],
)
def test_listings_of_uploads_of_no_known_shape_end(
    s3_answers: dict[str, Any], answer: dict[str, Any]
) -> None:
    """An upload without key or id cannot be aborted; a page that leads to itself is the last."""
    s3_answers["list_multipart_uploads"] = lambda _, **kwargs: answer
    client = open_client("s3://bucket/p", {})
    assert client.run(client.list_uploads, "bucket/p") == []


@pytest.mark.parametrize("size", [None, "12", "missing"])
def test_a_file_without_a_size_is_an_answer_cut_short(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, size: Any
) -> None:
    """It says nothing about the file."""
    client = open_client(f"s3://{s3_bucket}/p", {})

    async def info(path: str) -> dict[str, Any]:
        return {} if size == "missing" else {"size": size}

    monkeypatch.setattr(client.connection.fs, "_info", info)
    with pytest.raises(StorageUnavailableError, match="expected a number of bytes"):
        client.run(client.size, f"{s3_bucket}/p/a")


def test_servers_without_bulk_deletion_are_supported(s3_answers: dict[str, Any]) -> None:
    """Files are deleted one by one where the bulk request fails."""
    put("bucket", "p/a", "p/b")
    s3_answers["delete_objects"] = OSError("NotImplemented")
    assert delete("s3://bucket/p", ["bucket/p/a", "bucket/p/b", "bucket/p/missing"]) == {}
    assert keys() == []


def test_deletion_in_a_missing_bucket_succeeds(s3_bucket: str) -> None:
    """Missing files are no failure."""
    assert delete("s3://no-such-bucket", ["no-such-bucket/a"]) == {}


def test_names_are_never_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting ``[ab]*`` deletes the file of that name alone; failures have their own paths."""
    names = ["[ab]*", "a", "b", "c"]
    for name in names:
        (tmp_path / name).write_bytes(b"abc")
    refuse_deletion(monkeypatch).add("c")
    failures = delete(
        f"file://{tmp_path}", [f"{tmp_path}/{name}" for name in ("[ab]*", "c", "missing")]
    )
    assert {path: type(error) for path, error in failures.items()} == {
        f"{tmp_path}/c": StoragePermissionError
    }
    assert sorted(path.name for path in files(tmp_path)) == ["a", "b", "c"]
