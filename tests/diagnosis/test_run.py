"""All checks together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fsspill.diagnosis.run import diagnose
from tests.at_rest import keys
from tests.diagnosis.verdicts import check


def test_several_uris_are_checked_each_by_itself(s3_bucket: str) -> None:
    """The machine once."""
    uris = [f"s3://{s3_bucket}/a", f"s3://{s3_bucket}/b"]
    found = diagnose({"type": "fsspec", "params": {"uri": uris, "prefix": "p"}}, speed=False)
    assert found.can_spill
    named = [(verdict.uri, verdict.name) for verdict in found.verdicts]
    assert len(set(named)) == len(named)
    assert {uri for uri, _ in named} == {"", f"{uris[0]}/p", f"{uris[1]}/p"}
    assert keys() == []


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"uri": "s3:/bucket"}, "Did you mean 's3://bucket'?"),
        ({"uri": "nothing://bucket"}, "nothing"),
        ({"uri": "memory://x", "file_size": 0}, "cannot use file_size=0"),
        ({}, "uri"),
    ],
)
def test_a_configuration_that_cannot_work_is_a_verdict(
    params: dict[str, Any], expected: str
) -> None:
    """With its message; the machine is checked all the same."""
    found = diagnose({"type": "fsspec", "params": params}, speed=False)
    assert not found.can_spill
    assert found.parameters == []
    first, *others = found.verdicts
    assert (first.name, first.outcome) == ("configuration", "failed")
    assert expected in first.found + first.advice
    assert [each.name for each in others] == ["packages", "hook"]


def test_a_wrong_local_copy_alone_is_a_warning(memory_uri: str) -> None:
    """IO workers go on without it."""
    verdicts = check(memory_uri, cache_dir="/no/such/directory")
    assert verdicts["configuration"].outcome == "warning"
    assert "without cache_max_bytes" in verdicts["configuration"].found
    assert verdicts["write"].outcome == "ok"


def test_a_storage_of_each_process_is_a_warning(memory_uri: str) -> None:
    """Ray's start refuses it."""
    assert check(memory_uri)["filesystem"].outcome == "warning"


def test_a_filesystem_that_cannot_be_made_is_a_verdict(s3_bucket: str) -> None:
    """All that needs it is skipped."""
    verdicts = check(f"s3://{s3_bucket}/x", storage_options={"endpont_url": "http://x"})
    assert verdicts["filesystem"].outcome == "failed"
    assert "endpoint_url" in verdicts["filesystem"].found + verdicts["filesystem"].advice
    assert verdicts["write"].outcome == "skipped"


def test_the_result_is_json(tmp_path: Path) -> None:
    """With all that was found."""
    config = {"type": "fsspec", "params": {"uri": f"file://{tmp_path}"}}
    found = json.loads(json.dumps(diagnose(config, speed=False).as_json()))
    assert found["can_spill"] is True
    assert found["versions"]["fsspill"]
    assert {"name", "value", "source"} == set(found["parameters"][0])
    assert {"uri", "name", "outcome", "found", "advice"} == set(found["verdicts"][0])
