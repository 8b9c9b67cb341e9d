"""Scanning and cleaning of S3: requests, and incomplete multipart uploads."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import fsspec
import pytest

from fsspill import StoragePermissionError
from fsspill.cleanup import clean, scan
from fsspill.cleanup.sessions import DAY
from fsspill.testing.s3_server import S3Server
from tests.altered_answers import alter_s3_answers
from tests.at_rest import keys, open_uploads
from tests.cleanup.layouts import HOUR, heartbeat_data, liveness_of, only_session

BEATS = "fsspill_heartbeats"
SESSION = ("s/fsspill_heartbeats/head", "s/fsspill_heartbeats/n1", "s/ray_spilled_objects_n1/f")
"""Keys of a session below its URI."""

SPILLED_KEY = "p/s/ray_spilled_objects_n1/f"
OTHER_KEYS = (
    "other/s/ray_spilled_objects_n1/f",
    "p/data/f",
    "p/ray_spilled_objects_n1/f",
    "p/s/ray_spilled_objects_n1/deeper/f",
)
"""Keys outside the layout."""

clean_regardless_of_age = partial(clean, older_than=0.0, stale_after=0.0)
"""Clean as if every file were old: the server's clock cannot be set."""


@pytest.fixture
def s3_answers(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the altered answers to S3's calls, by name."""
    return alter_s3_answers(monkeypatch)


def put(*names: str, prefix: str = "bucket/p") -> None:
    """Write spilled files of 3 bytes, and heartbeats that are two days old by the time in them."""
    files = {name: heartbeat_data(2 * DAY) if BEATS in name else b"abc" for name in names}
    fsspec.filesystem("s3").pipe({f"{prefix}/{name}": data for name, data in files.items()})


@pytest.fixture
def files_two_days_old(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all files of sessions two days old in a listing of the whole URI."""
    s3fs = pytest.importorskip("s3fs")
    find = s3fs.S3FileSystem._find

    async def _find(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await find(self, *args, **kwargs)
        for name, info in found.items():
            if "fsspill-check" not in name:
                info["LastModified"] -= timedelta(days=2)
        return found

    monkeypatch.setattr(s3fs.S3FileSystem, "_find", _find)


@pytest.fixture
def heartbeats_two_days_old(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all heartbeats two days old in a listing of their directory."""
    s3fs = pytest.importorskip("s3fs")
    ls = s3fs.S3FileSystem._ls

    async def _ls(self: Any, *args: Any, **kwargs: Any) -> Any:
        old = {"LastModified": datetime.now(timezone.utc) - timedelta(days=2)}
        return [{**info, **old} for info in await ls(self, *args, **kwargs)]

    monkeypatch.setattr(s3fs.S3FileSystem, "_ls", _ls)


def test_a_session_on_s3_is_removed_once_dead(s3_bucket: str) -> None:
    """Times are those of the server; other keys of the bucket stay."""
    put(*SESSION, "others/f", "ray_spilled_objects_n1/f")
    put(*SESSION, prefix="bucket")
    session = only_session("s3://bucket/p")
    assert session.liveness == "alive"
    assert [(len(node.files), node.nbytes) for node in session.nodes.values()] == [(1, 3)]
    assert clean("s3://bucket/p", older_than=0).kept == {"session s": "alive"}
    summary = clean_regardless_of_age("s3://bucket/p")
    assert (summary.sessions, summary.files, summary.failures) == (["s"], 3, {})
    others = ["bucket/p/others/f", "bucket/p/ray_spilled_objects_n1/f"]
    assert keys() == sorted([*others, *(f"bucket/{name}" for name in SESSION)])


def test_a_uri_may_be_a_whole_bucket(s3_bucket: str) -> None:
    """Keys then have no prefix."""
    put(*SESSION, prefix="bucket")
    assert clean_regardless_of_age("s3://bucket").sessions == ["s"]
    assert keys() == []


def test_requests_of_scan_and_clean(s3_server: S3Server, s3_bucket: str) -> None:
    """A scan is four requests; a dead session is a listing, a read and two bulk deletions more."""
    put(*SESSION)
    before = len(s3_server.requests())
    scan("s3://bucket/p")
    counts = Counter(request.method for request in s3_server.requests()[before:])
    assert counts == {"PUT": 1, "GET": 2, "DELETE": 1}
    clean_regardless_of_age("s3://bucket/p")
    counts = Counter(request.method for request in s3_server.requests()[before + 4 :])
    assert counts == {"PUT": 1, "GET": 4, "DELETE": 1, "POST": 2}


def test_a_session_on_s3_with_a_new_heartbeat_is_kept(files_two_days_old: None) -> None:
    """The second listing is of its heartbeats alone."""
    put(*SESSION)
    assert clean("s3://bucket/p").kept == {"session s": "new heartbeat seen"}
    assert len(keys()) == 3


# Incomplete multipart uploads


def begin_uploads(*keys: str) -> None:
    """Begin a multipart upload of each key, and leave it incomplete."""
    fs = fsspec.filesystem("s3")
    for key in keys:
        fs.call_s3("create_multipart_upload", Bucket="bucket", Key=key)


def test_stale_uploads_of_any_session_are_aborted(s3_bucket: str) -> None:
    """Those of a live session too; uploads outside the layout are never touched."""
    put(*SESSION)
    begin_uploads(SPILLED_KEY, SPILLED_KEY, *OTHER_KEYS)  # begun in 2010, as the server has it
    session = only_session("s3://bucket/p")
    assert len(session.uploads) == 2
    assert session.liveness == "alive"
    assert clean("s3://bucket/p", dry_run=True).uploads == 2
    summary = clean("s3://bucket/p")
    assert (summary.uploads, summary.sessions, summary.files) == (2, [], 0)
    assert open_uploads() == sorted(OTHER_KEYS)
    assert len(keys()) == 3


def with_uploads_begun_now(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Return a listing of uploads in which all have just begun."""
    now = datetime.now(timezone.utc)
    uploads = [{**upload, "Initiated": now} for upload in answer.get("Uploads", [])]
    return {**answer, "Uploads": uploads}


def test_recent_uploads_are_aborted_only_with_their_session(s3_answers: dict[str, Any]) -> None:
    """One may be in progress, unless its session is named or dead."""
    s3_answers["list_multipart_uploads"] = with_uploads_begun_now
    begin_uploads(SPILLED_KEY)
    assert clean("s3://bucket/p", older_than=HOUR).uploads == 0
    assert open_uploads() == [SPILLED_KEY]
    summary = clean("s3://bucket/p", sessions=["s"])
    assert (summary.uploads, summary.sessions) == (1, ["s"])
    assert open_uploads() == []


def test_uploads_of_a_dead_session_are_aborted_with_it(
    files_two_days_old: None, heartbeats_two_days_old: None
) -> None:
    """They are counted once."""
    put(*SESSION)
    begin_uploads(SPILLED_KEY)
    assert liveness_of("s3://bucket/p") == {"s": "dead"}
    summary = clean("s3://bucket/p", stale_after=0.0)
    assert (summary.sessions, summary.files, summary.uploads) == (["s"], 3, 1)
    assert open_uploads() == keys() == []


def test_a_recent_upload_makes_its_session_recent(
    s3_answers: dict[str, Any], files_two_days_old: None
) -> None:
    """A process of the session began it."""
    put(*SESSION)
    begin_uploads(SPILLED_KEY)
    s3_answers["list_multipart_uploads"] = with_uploads_begun_now
    assert liveness_of("s3://bucket/p") == {"s": "recent"}
    assert clean("s3://bucket/p").kept == {"session s": "not old enough"}
    assert len(keys()) == 3


def test_uploads_are_listed_in_pages(s3_answers: dict[str, Any]) -> None:
    """S3 answers with up to 1000, and with the marker of the next page."""

    def page(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        number = int(kwargs.get("KeyMarker", 0))
        assert kwargs.get("UploadIdMarker", "after 0") == f"after {number}"
        uploads = [upload for upload in answer["Uploads"] if upload["Key"].endswith(str(number))]
        more = {"NextKeyMarker": str(number + 1), "NextUploadIdMarker": f"after {number + 1}"}
        return {**answer, "Uploads": uploads, "IsTruncated": number < 2, **more}

    names = [f"{SPILLED_KEY}-{number}" for number in range(3)]
    begin_uploads(*names)
    s3_answers["list_multipart_uploads"] = page
    [session] = scan("s3://bucket/p")
    assert [upload.info["Key"] for upload in session.uploads] == names


def test_a_refused_listing_of_uploads_is_a_failure(
    s3_answers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Policies often lack that permission: sessions are still shown and cleaned."""
    put(*SESSION)
    s3_answers["list_multipart_uploads"] = PermissionError("Access Denied")
    assert liveness_of("s3://bucket/p") == {"s": "alive"}
    assert "multipart uploads of s3://bucket/p" in caplog.text
    summary = clean_regardless_of_age("s3://bucket/p")
    assert summary.sessions == ["s"]
    assert [type(error) for error in summary.failures.values()] == [StoragePermissionError]
    assert keys() == []


def test_a_refused_abort_is_a_failure(s3_answers: dict[str, Any]) -> None:
    """The failure has the key; an upload that has ended meanwhile is none."""
    begin_uploads(SPILLED_KEY)
    s3_answers["abort_multipart_upload"] = PermissionError("Access Denied")
    summary = clean("s3://bucket/p")
    assert list(summary.failures) == [f"bucket/{SPILLED_KEY}"]
    assert summary.uploads == 0
    s3_answers["abort_multipart_upload"] = FileNotFoundError("NoSuchUpload")
    assert clean("s3://bucket/p").failures == {}
