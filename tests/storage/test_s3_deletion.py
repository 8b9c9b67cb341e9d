"""Bulk deletion: refusals of single files, answers that are none, servers that do not know it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pytest

from fsspill import FsspillError, StoragePermissionError, StorageUnavailableError
from fsspill.storage import s3_deletion
from fsspill.storage.client_pool import open_client
from fsspill.testing.s3_server import S3Server
from tests.altered_answers import alter_s3_answers
from tests.at_rest import keys
from tests.faults.dialects import Fixed, answer_with_code
from tests.faults.fault_proxy import Answer, FaultProxy, is_bulk_delete


@pytest.fixture
def s3_answers(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the altered answers to S3's calls, by name."""
    return alter_s3_answers(monkeypatch)


@pytest.fixture(autouse=True)
def _no_endpoint_is_known() -> Iterator[None]:
    s3_deletion._WITHOUT_BULK.clear()
    yield
    s3_deletion._WITHOUT_BULK.clear()


def delete(uri: str, paths: Sequence[str]) -> dict[str, FsspillError]:
    client = open_client(uri, {})
    return client.run(client.delete, paths, 8)


def put(bucket: str, *keys: str) -> None:
    fsspec.filesystem("s3").pipe({f"{bucket}/{key}": b"abc" for key in keys})


def test_files_are_deleted_in_batches_of_one_bucket(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request deletes as many files of a bucket as S3 takes, missing ones included."""
    monkeypatch.setattr(s3_deletion, "_BULK", 4)
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


def test_a_file_that_is_refused_as_too_much_slows_down(s3_answers: dict[str, Any]) -> None:
    """Each file of a bulk deletion counts as a request, though the answer is a success."""
    put("bucket", "p/a")
    code = "AccessDenied"

    def refuse(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"Errors": [{"Key": "p/a", "Code": code, "Message": "m"}]}

    s3_answers["delete_objects"] = refuse
    client = open_client("s3://bucket/p", {})
    client.run(client.delete, ["bucket/p/a"], 8)
    assert not client.meter.throttle.is_limited
    code = "SlowDown"
    client.run(client.delete, ["bucket/p/a"], 8)
    assert client.meter.throttle.is_limited


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
def test_malformed_answers_to_a_bulk_deletion_lose_no_file(
    s3_answers: dict[str, Any], errors: Any
) -> None:
    """Files that an answer does not name are deleted by requests of their own."""
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
    assert sorted(asked) == ["p/a", "p/b"]
    assert keys() == []


@pytest.mark.parametrize("answer", [None, "<html>", [], 3])
def test_a_page_of_a_proxy_is_not_taken_for_a_deletion(
    s3_answers: dict[str, Any], answer: Any
) -> None:
    """An answer of a proxy with status 200 deletes nothing."""
    put("bucket", "p/a")
    s3_answers["delete_objects"] = lambda _, **kwargs: answer
    assert delete("s3://bucket/p", ["bucket/p/a"]) == {}
    assert keys() == []


def test_a_refusal_without_code_and_message_is_reported(s3_answers: dict[str, Any]) -> None:
    """The file may still exist, which is all that is known."""
    put("bucket", "p/a")
    s3_answers["delete_objects"] = lambda _, **kwargs: {"Errors": [{"Key": "p/a"}]}
    assert list(delete("s3://bucket/p", ["bucket/p/a"])) == ["bucket/p/a"]


def test_servers_without_bulk_deletion_are_supported(s3_answers: dict[str, Any]) -> None:
    """Files are deleted one by one where the bulk request fails."""
    put("bucket", "p/a", "p/b")
    s3_answers["delete_objects"] = OSError("NotImplemented")
    assert delete("s3://bucket/p", ["bucket/p/a", "bucket/p/b", "bucket/p/missing"]) == {}
    assert keys() == []


def test_deletion_in_a_missing_bucket_succeeds(s3_bucket: str) -> None:
    """A missing file is not a failure."""
    assert delete("s3://no-such-bucket", ["no-such-bucket/a"]) == {}


@pytest.mark.parametrize(
    "answer",
    [
        answer_with_code(501, "NotImplemented"),
        answer_with_code(400, "MissingContentMD5"),
        answer_with_code(405, "MethodNotAllowed"),
        Answer.of(200, b"<DeleteResult/>"),
    ],
)
def test_a_server_without_bulk_deletion_is_asked_once(proxy: FaultProxy, answer: Answer) -> None:
    """By all clients of the process: other URIs of the endpoint, and renewed ones."""
    with proxy.speak(Fixed(lambda: answer, lambda call: is_bulk_delete(call.path))):
        for uri in ("s3://bucket/p", "s3://bucket/q"):
            put("bucket", "p/a", "p/b")
            assert delete(uri, ["bucket/p/a", "bucket/p/b"]) == {}
            assert keys() == []
    assert sum(request.method == "POST" for request in proxy.requests) == 1
    assert sum(request.method == "DELETE" for request in proxy.requests) == 4


@pytest.mark.parametrize("status", [403, 503])
def test_an_outage_is_no_lack_of_bulk_deletion(proxy: FaultProxy, status: int) -> None:
    """A refusal for want of permission, and an answer that may pass, are asked for again."""
    code = {403: "AccessDenied", 503: "SlowDown"}[status]
    answer = answer_with_code(status, code)
    with proxy.speak(Fixed(lambda: answer, lambda call: is_bulk_delete(call.path))):
        put("bucket", "p/a")
        assert delete("s3://bucket/p", ["bucket/p/a"]) == {}
    put("bucket", "p/a")
    proxy.requests.clear()
    assert delete("s3://bucket/p", ["bucket/p/a"]) == {}
    assert [request.method for request in proxy.requests] == ["POST"]
