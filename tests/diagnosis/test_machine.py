"""Facts of the machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.diagnosis.verdicts import check

GIB = 2**30


def test_versions_are_told(memory_uri: str) -> None:
    """Of what is installed."""
    verdict = check(memory_uri)["packages"]
    assert verdict.outcome == "ok"
    assert "fsspec " in verdict.found


def test_packages_that_do_not_fit_are_a_warning(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that mends them."""
    monkeypatch.setattr("fsspill.diagnosis.machine.describe_conflicts", lambda extra: f"no {extra}")
    verdict = check(f"s3://{s3_bucket}/x")["packages"]
    assert (verdict.outcome, verdict.found) == ("warning", "no s3")
    assert f'{sys.executable} -m pip install "fsspill[s3]"' in verdict.advice


def test_a_python_without_ray_is_a_warning(
    memory_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the one that spills."""
    monkeypatch.setattr("fsspill.diagnosis.machine._PACKAGES", ("fsspill",))
    verdict = check(memory_uri)["packages"]
    assert verdict.outcome == "warning"
    assert 'pip install "fsspill[ray]"' in verdict.advice


@pytest.mark.parametrize(
    ("variable", "advice"), [("0", "Unset FSSPILL_HOOK."), (None, "Set PYTHONPATH=")]
)
def test_a_hook_that_is_not_active_is_said_in_one_line(
    memory_uri: str, monkeypatch: pytest.MonkeyPatch, variable: str | None, advice: str
) -> None:
    """The children of this interpreter will not spill to the URI; and what to set."""
    monkeypatch.setattr("fsspill.diagnosis.machine.is_armed", lambda: False)
    monkeypatch.delenv("FSSPILL_HOOK", raising=False)
    if variable:
        monkeypatch.setenv("FSSPILL_HOOK", variable)
    verdict = check(memory_uri)["hook"]
    assert verdict.outcome == "failed"
    assert f"will not spill to {memory_uri}" in verdict.found
    assert verdict.advice.startswith(advice)
    assert "\n" not in verdict.found + verdict.advice


def test_the_hook_of_this_interpreter_is_active(memory_uri: str) -> None:
    """Its site-packages have the .pth file."""
    assert check(memory_uri)["hook"].outcome == "ok"


@pytest.mark.parametrize(("free", "outcome"), [(50, "ok"), (3, "warning")])
def test_a_disk_that_is_nearly_full_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outcome: str
) -> None:
    """That of the spill directory, or else of Ray's own."""
    usage = type(shutil.disk_usage("/"))(100 * GIB, (100 - free) * GIB, free * GIB)
    monkeypatch.setattr("fsspill.diagnosis.machine.shutil.disk_usage", lambda path: usage)
    monkeypatch.setenv("RAY_TMPDIR", "/ray/tmp")
    verdict = check(f"file://{tmp_path}/new/directory")["disk"]
    assert verdict.outcome == outcome
    assert verdict.found == f"{free} GiB of 100 GiB free at {tmp_path}/new/directory"
    assert "at /ray/tmp, which Ray uses" in check("memory://x")["disk"].found


def test_min_free_bytes_is_the_limit_of_a_disk(tmp_path: Path) -> None:
    """Files go to the next URI below it."""
    verdict = check(f"file://{tmp_path}", min_free_bytes=2**60)["disk"]
    assert verdict.outcome == "warning"


def test_the_local_copy_is_checked(memory_uri: str, tmp_path: Path) -> None:
    """With its limit and what is free; one that cannot work is a warning."""
    assert check(memory_uri)["local copy"].outcome == "skipped"
    verdict = check(memory_uri, cache_dir=tmp_path, cache_max_bytes=2**27)["local copy"]
    assert verdict.outcome == "ok"
    assert f"up to 0.125 GiB in {tmp_path}" in verdict.found
    verdict = check(memory_uri, cache_dir=tmp_path / "no", cache_max_bytes=2**27)["local copy"]
    assert verdict.outcome == "warning"
    assert "there is no such directory" in verdict.found
    assert list(tmp_path.iterdir()) == []
