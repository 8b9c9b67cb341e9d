"""Checks of permissions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests.at_rest import keys
from tests.diagnosis.verdicts import check, outcomes
from tests.faults.fault_proxy import Fault, FaultProxy, is_bulk_delete, is_object
from tests.timeouts import IMPATIENT
from tests.users import only_user

ALL = (
    "write",
    "read",
    "ranged read",
    "list",
    "delete",
    "delete many",
    "multipart",
    "abort",
    "list uploads",
)


def policy(*denied: str) -> str:
    """Return a policy that allows all but some actions of S3."""
    statements = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    if denied:
        statements.append({"Effect": "Deny", "Action": list(denied), "Resource": "*"})  # type: ignore[dict-item]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def test_every_permission_is_there(s3_bucket: str) -> None:
    """And nothing is left."""
    verdicts = check(f"s3://{s3_bucket}/x")
    assert outcomes(verdicts, *ALL, "clean-up") == ["ok"] * 10
    assert keys() == []


@pytest.mark.parametrize(
    ("denied", "failing", "outcome", "skipped"),
    [
        ("s3:PutObject", "write", "failed", ALL[1:-1]),
        ("s3:GetObject", "read", "failed", ["ranged read"]),
        ("s3:ListBucket", "list", "failed", []),
        ("s3:DeleteObject", "delete", "failed", []),
        ("s3:AbortMultipartUpload", "abort", "warning", []),
        ("s3:ListBucketMultipartUploads", "list uploads", "warning", []),
    ],
)
def test_a_refused_permission_is_named(
    checking_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    denied: str,
    failing: str,
    outcome: str,
    skipped: Sequence[str],
) -> None:
    """It alone has failed, and what needs it is skipped."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", checking_server.endpoint_url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    checking_server.create_bucket("bucket")
    with only_user(checking_server, monkeypatch, policy(denied)):
        verdicts = check("s3://bucket/x")
    assert verdicts[failing].outcome == outcome
    assert denied in verdicts[failing].advice + verdicts[failing].found
    assert outcomes(verdicts, *skipped) == ["skipped"] * len(skipped)
    others = set(ALL) - {failing, *skipped}
    if denied == "s3:DeleteObject":
        others -= {"delete many"}
    assert outcomes(verdicts, *others) == ["ok"] * len(others)


def test_what_cannot_be_listed_is_removed(proxy: FaultProxy) -> None:
    """By its name; and nothing is measured that could not be removed."""
    with proxy.inject(Fault.FORBIDDEN, method="GET", where=lambda path: "list-type" in path):
        verdicts = check("s3://bucket/x", speed=True)
    assert verdicts["list"].outcome == "failed"
    assert outcomes(verdicts, "latency", "1 connection", "64 connections") == ["skipped"] * 3
    assert keys() == []


def test_what_cannot_be_deleted_is_said_to_be_left(proxy: FaultProxy) -> None:
    """With the command that removes it."""
    with proxy.inject(Fault.DELETE_DENIED):
        verdicts = check("s3://bucket/x")
    assert outcomes(verdicts, "delete", "delete many", "clean-up") == [
        "failed",
        "failed",
        "warning",
    ]
    assert "fsspill clean s3://bucket/x --session fsspill-check-" in verdicts["clean-up"].advice


def test_a_server_without_bulk_deletion_can_delete_many(proxy: FaultProxy) -> None:
    """One by one, as spilled files are."""
    with proxy.inject(Fault.TOO_LARGE, where=is_bulk_delete):
        assert check("s3://bucket/x")["delete many"].outcome == "ok"


def test_a_proxy_that_alters_bytes_is_named(proxy: FaultProxy) -> None:
    """What was read is compared with what was written."""
    with proxy.inject(Fault.SWAP, method="GET", where=is_object):
        verdict = check("s3://bucket/x")["read"]
    assert verdict.outcome == "failed"
    assert "any proxy before it" in verdict.advice


def test_a_storage_that_does_not_answer_is_asked_once(proxy: FaultProxy) -> None:
    """Everything else is skipped, and says so."""
    with proxy.inject(Fault.UNAVAILABLE):
        verdicts = check("s3://bucket/x", stall_timeout=IMPATIENT)
    assert verdicts["write"].outcome == "failed"
    others = [*ALL[1:], "region", "clock", "versioning", "clean-up"]
    assert {verdicts[name].found for name in others} == {"not tried: the storage does not answer"}


def test_missing_credentials_are_no_lack_of_a_permission(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There are none at all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    verdicts = check(f"s3://{s3_bucket}/x")
    assert outcomes(verdicts, "write", "lifecycle") == ["failed", "skipped"]
    assert "credentials that this process can find" in verdicts["write"].advice
    said = [each.found + each.advice for each in verdicts.values()]
    assert "s3:" not in "".join(said).replace("s3://", "")


def test_a_missing_bucket_is_said_once(s3_bucket: str) -> None:
    """With what to do."""
    verdicts = check("s3://no-such-bucket/x")
    assert verdicts["write"].outcome == "failed"
    assert "create it, or correct the URI" in verdicts["write"].advice


@pytest.mark.parametrize("shared", [True, False])
def test_a_directory_has_no_parts(tmp_path: Path, shared: bool) -> None:
    """All else is checked there too."""
    verdicts = check(f"file://{tmp_path}/x", shared=shared)
    assert outcomes(verdicts, *ALL[:6]) == ["ok"] * 6
    assert outcomes(verdicts, "multipart", "list uploads") == ["skipped"] * 2
    assert verdicts["multipart"].found == "not of this storage"
    assert list(tmp_path.glob("x/*")) == []


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    """Without a permission of S3."""
    (tmp_path / "x").write_text("a file")
    verdict = check(f"file://{tmp_path}/x")["write"]
    assert verdict.outcome == "failed"
    assert "s3:" not in verdict.found + verdict.advice


def test_other_filesystems_are_checked(memory_uri: str) -> None:
    """By what every filesystem has."""
    assert outcomes(check(memory_uri), *ALL[:6]) == ["ok"] * 6
