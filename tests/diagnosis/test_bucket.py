"""Facts of a bucket."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from fsspill.diagnosis.bucket import check_bucket
from fsspill.diagnosis.trial import Trial
from fsspill.diagnosis.verdict import Checklist, ok
from fsspill.settings import Settings
from tests.diagnosis.verdicts import check, outcomes
from tests.faults.fault_proxy import Answer, Call, Dialect, Fault, FaultProxy


@pytest.fixture
def s3(s3_bucket: str) -> Any:
    """Return a client of the S3 server that shares nothing with fsspill."""
    return pytest.importorskip("boto3").client("s3")


def enable_versions(s3: Any) -> None:
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})


def test_a_plain_bucket_has_nothing_that_costs(s3: Any) -> None:
    """No versions, no rules, no lock."""
    verdicts = check("s3://bucket/x")
    assert outcomes(verdicts, "region", "clock", "versioning", "lifecycle", "object lock") == (
        ["ok"] * 5
    )
    assert verdicts["region"].found == "us-east-1"
    assert verdicts["soft delete"].outcome == "skipped"


def test_http_is_a_warning(s3: Any) -> None:
    """With the endpoint that is asked."""
    verdict = check("s3://bucket/x")["https"]
    assert verdict.outcome == "warning"
    assert verdict.found.startswith("http://127.0.0.1:")


def test_another_region_is_named(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to set."""
    where = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="far", CreateBucketConfiguration=where)
    verdict = check("s3://far/x")["region"]
    assert verdict.outcome == "warning"
    assert "AWS_DEFAULT_REGION=eu-west-1" in verdict.advice


class OtherClock(Dialect):
    """A server whose clock differs by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def alter(self, call: Call, answer: Answer) -> None:
        del answer.headers["Date"]
        answer.headers["Date"] = formatdate(time.time() + self._seconds, usegmt=True)


@pytest.mark.parametrize(("seconds", "expected"), [(600, "behind"), (-600, "ahead of")])
def test_a_wrong_clock_is_a_warning(proxy: FaultProxy, seconds: float, expected: str) -> None:
    """By the time in the answers of the storage."""
    with proxy.speak(OtherClock(seconds)):
        verdict = check("s3://bucket/x")["clock"]
    assert verdict.outcome == "warning"
    assert f"s {expected} the storage" in verdict.found
    assert "by NTP" in verdict.advice


def test_the_time_of_a_file_tells_the_clock_elsewhere(memory_uri: str) -> None:
    """Where answers have no date."""
    assert check(memory_uri)["clock"].outcome in ("ok", "skipped")


def test_the_clock_of_a_directory(tmp_path: Any) -> None:
    """That of its server, where there is one."""
    assert check(f"file://{tmp_path}", shared=True)["clock"].outcome == "ok"


def test_versions_that_may_be_deleted_are_fine(s3: Any) -> None:
    """And none is left of what the check wrote."""
    enable_versions(s3)
    verdict = check("s3://bucket/x")["versioning"]
    assert verdict.outcome == "ok"
    assert verdict.found.startswith("on: fsspill deletes every version")
    left = s3.list_object_versions(Bucket="bucket")
    assert left.get("Versions", []) + left.get("DeleteMarkers", []) == []


@pytest.mark.parametrize("refused", ["versionId", "versions"])
def test_versions_that_may_not_be_deleted_are_billed(
    s3: Any, proxy: FaultProxy, refused: str
) -> None:
    """A warning with the permissions, and the rule that ends them."""
    enable_versions(s3)
    denied = "?versionId=" if refused == "versionId" else "?versions"
    with (
        proxy.inject(Fault.FORBIDDEN, where=lambda path: denied in path),
        proxy.inject(Fault.FORBIDDEN, body=b"<VersionId>"),
    ):
        verdict = check("s3://bucket/x")["versioning"]
    assert verdict.outcome == "warning"
    assert "stays, and is billed" in verdict.found
    assert "s3:DeleteObjectVersion" in verdict.advice


def test_rules_of_the_bucket_are_judged(s3: Any) -> None:
    """Those of the prefix."""
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}
    rules = {"Rules": [rule]}
    s3.put_bucket_lifecycle_configuration(Bucket="bucket", LifecycleConfiguration=rules)
    verdict = check("s3://bucket/x")["lifecycle"]
    assert (verdict.outcome, verdict.found) == ("warning", "deletes files after 1 day")
    assert check("s3://bucket/y")["lifecycle"].found == "no rule for these files"


def test_a_default_retention_is_a_warning(s3: Any) -> None:
    """Every file stays that long."""
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    assert check("s3://locked/x")["object lock"].outcome == "ok"
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 5}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=lock)
    verdict = check("s3://locked/x")["object lock"]
    assert verdict.outcome == "warning"
    assert "for 5 days" in verdict.found


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault.FORBIDDEN, "these credentials may not read it"), (Fault.TOO_LARGE, "does not tell")],
)
def test_settings_that_are_not_told_are_skipped(
    proxy: FaultProxy, fault: Fault, reason: str
) -> None:
    """None of them is needed to spill."""
    queries = ("?versioning", "?lifecycle", "?object-lock")
    with proxy.inject(fault, where=lambda path: path.endswith(queries)):
        verdicts = check("s3://bucket/x")
    for name in ("versioning", "lifecycle", "object lock"):
        assert verdicts[name].outcome == "skipped"
        assert reason in verdicts[name].found


def test_other_filesystems_have_no_settings(memory_uri: str) -> None:
    """They are skipped."""
    verdicts = check(memory_uri)
    names = ("region", "https", "versioning", "soft delete", "lifecycle", "object lock")
    assert outcomes(verdicts, *names) == ["skipped"] * 6


class Cloud:
    """What gcsfs or adlfs has, as far as it is asked for settings."""

    def __init__(self, days: int | Exception) -> None:
        self._days = days
        self.service_client = self

    async def _call(self, *_: Any, **__: Any) -> Mapping[str, Any]:
        if isinstance(self._days, Exception):
            raise self._days
        return {"softDeletePolicy": {"retentionDurationSeconds": str(self._days * 86400)}}

    async def get_service_properties(self) -> Mapping[str, Any]:
        if isinstance(self._days, Exception):
            raise self._days
        policy = SimpleNamespace(enabled=bool(self._days), days=self._days)
        return {"delete_retention_policy": policy}


@pytest.mark.parametrize("kind", ["gcs", "azure"])
@pytest.mark.parametrize(
    ("days", "outcome"), [(7, "warning"), (0, "ok"), (PermissionError("no"), "skipped")]
)
def test_soft_delete_is_a_warning(
    memory_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    days: int | Exception,
    outcome: str,
) -> None:
    """Of Google's buckets and Azure's accounts, where it may be read."""
    trial, checks = Trial(Settings(memory_uri), memory_uri), Checklist()
    connection = trial.client.connection
    traits = SimpleNamespace(obstore=kind, client="fsspec")
    stub = SimpleNamespace(traits=traits, fs=Cloud(days), run=connection.run)
    monkeypatch.setattr(trial.client, "connection", stub)
    checks.run("filesystem", lambda: ok(""))
    check_bucket(trial, checks)
    [verdict] = [each for each in checks.verdicts if each.name == "soft delete"]
    assert verdict.outcome == outcome
