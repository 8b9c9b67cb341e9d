"""Measurements of speed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.at_rest import keys
from tests.diagnosis.verdicts import check, outcomes
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.recording import RequestRecorder

RATES = re.compile(r"writes [0-9.,]+ MiB/s, reads [0-9.,]+ MiB/s")


def test_latency_and_bandwidth_are_measured_and_nothing_is_left(
    s3_bucket: str, recorder: RequestRecorder
) -> None:
    """With few requests."""
    verdicts = check(f"s3://{s3_bucket}/x", speed=True)
    assert re.fullmatch(r"[0-9.e+]+ ms to read a byte", verdicts["latency"].found)
    assert outcomes(verdicts, "1 connection", "64 connections") == ["ok"] * 2
    assert RATES.fullmatch(verdicts["1 connection"].found)
    assert RATES.fullmatch(verdicts["64 connections"].found)
    assert sum(recorder.methods().values()) < 300
    assert keys() == []


def test_no_speed_makes_few_requests(s3_bucket: str, recorder: RequestRecorder) -> None:
    """Below 60."""
    assert "latency" not in check(f"s3://{s3_bucket}/x")
    assert sum(recorder.methods().values()) < 60


def test_a_slow_link_moves_less(proxy: FaultProxy) -> None:
    """A few MiB, where more would take minutes."""
    with proxy.inject(Fault.SLOW_LINK):
        verdicts = check("s3://bucket/x", speed=True, engine="fsspec")
    assert outcomes(verdicts, "1 connection", "64 connections") == ["ok"] * 2


def test_a_directory_has_one_connection(tmp_path: Path) -> None:
    """A disk gains nothing from more."""
    verdicts = check(f"file://{tmp_path}", speed=True)
    assert outcomes(verdicts, "latency", "1 connection", "64 connections") == [
        "ok",
        "ok",
        "skipped",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_filesystem_that_makes_one_request_at_a_time_is_told(memory_uri: str) -> None:
    """More connections would not be used."""
    verdict = check(memory_uri, speed=True)["64 connections"]
    assert verdict.found == "this filesystem makes one request at a time"


def test_a_failure_on_the_way_is_a_warning(proxy: FaultProxy) -> None:
    """The permissions have been checked; and nothing is left."""
    with proxy.inject(Fault.TOO_LARGE, method="PUT", where=lambda path: "-multi-" in path):
        verdicts = check("s3://bucket/x", speed=True)
    assert verdicts["1 connection"].outcome == "warning"
    assert "EntityTooLarge" in verdicts["1 connection"].found
    assert keys() == []


def test_files_that_were_not_all_stored_are_not_taken_for_speed(proxy: FaultProxy) -> None:
    """A spill may end early."""
    is_small = re.compile(r"-multi-1-[0-9]{1,6}\?*$").search
    with proxy.inject(Fault.TOO_LARGE, method="PUT", where=lambda path: bool(is_small(path))):
        verdicts = check("s3://bucket/x", speed=True)
    assert verdicts["1 connection"].outcome == "ok"
    assert verdicts["64 connections"].outcome == "warning"


@pytest.mark.parametrize("method", ["spill_objects", "restore_spilled_objects"])
def test_ctrl_c_leaves_nothing(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """In the middle of a measurement."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fsspill.external_storage.ExternalStorage.{method}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        check(f"s3://{s3_bucket}/x", speed=True)
    assert keys() == []
