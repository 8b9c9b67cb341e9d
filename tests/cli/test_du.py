"""``fsspill du``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill.cli.main import main
from fsspill.testing.s3_server import S3Server
from tests.cli.conftest import old_file


def test_space_is_printed_by_session_and_node(
    left_behind: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest first, with heartbeats, and the total last."""
    old_file(left_behind / "library" / "ray_spilled_objects_n1" / "g", 3600, b"x" * 4000)
    assert main(["du", f"file://{left_behind}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "session node files bytes old uploads",
        "library - 2 5,500 0 0",
        "library n1 2 5,500 0 -",
        "alive - 2 3,000 0 0",
        "alive n1 1 1,500 0 -",
        "dead - 2 3,000 0 0",
        "dead n1 1 1,500 0 -",
        "- n2 1 1,500 0 -",
        "total - 7 13,000 0 0",
    ]


def test_old_versions_are_counted(
    s3_server: S3Server, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are billed: of files that were written again, and of deleted ones."""
    s3: Any = pytest.importorskip("boto3").client("s3")
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    fs = fsspec.filesystem("s3")
    directory = f"{s3_bucket}/x/session/ray_spilled_objects_n"
    for nbytes in (100, 20, 3):
        fs.pipe_file(f"{directory}/again", b"x" * nbytes)
    fs.pipe_file(f"{directory}/deleted", b"x" * 4000)
    s3.delete_object(Bucket=s3_bucket, Key=f"{directory}/deleted".partition("/")[2])
    s3.create_multipart_upload(Bucket=s3_bucket, Key=f"{directory}/part".partition("/")[2])
    assert main(["du", f"s3://{s3_bucket}/x", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    space = {"files": 2, "bytes": 4123, "old_bytes": 4120}
    assert printed == {
        "sessions": [
            {
                "session": "session",
                **space,
                "uploads": 1,
                "nodes": [{"node": "n", **space, "uploads": 0}],
            }
        ],
        "total": {**space, "uploads": 1},
    }
