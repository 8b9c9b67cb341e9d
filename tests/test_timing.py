"""Time in messages and in tests: no duration is lost, and no outcome depends on the machine."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from fsspill import ConfigError, StorageUnavailableError
from fsspill.cleanup.clean import clean
from fsspill.storage.client_pool import open_client
from tests import virtual_time

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "fsspill"


def test_no_message_rounds_seconds_itself() -> None:
    """Durations go through `format_seconds`, which never makes "0 s" of half a second."""
    rounded = re.compile(r"\{[^{}]*:[^{}]*f\} s\b")
    found = [path for path in PACKAGE.rglob("*.py") if rounded.search(path.read_text())]
    assert [path.name for path in found] == ["errors.py"]


def test_stall_timeouts_of_tests_have_a_reason() -> None:
    """Every stall timeout of a test is one of `tests.timeouts`: a number is a guess at a speed."""
    number = re.compile(r"stall_timeout=[1-9]")
    assert [path for path in TESTS.rglob("*.py") if number.search(path.read_text())] == []


def test_a_live_session_is_named_with_the_age_that_keeps_it(tmp_path: Path) -> None:
    """The limit is in the message, whatever its size."""
    heartbeat = tmp_path / "s" / "fsspill_heartbeats" / "head"
    heartbeat.parent.mkdir(parents=True)
    heartbeat.touch()
    later = heartbeat.stat().st_mtime + 3600  # younger than half a second, however long this takes
    os.utime(heartbeat, (later, later))
    with pytest.raises(ConfigError, match=r"less than 0\.5 s old"):
        clean(f"file://{tmp_path}", sessions=["s"], stale_after=0.5)


def test_a_deletion_without_an_answer_states_its_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is not 0 s."""

    async def delete(*arguments: object) -> None:
        await asyncio.Event().wait()

    client = open_client("memory://x", {})
    monkeypatch.setattr(client, "delete", delete)
    failures, seconds = virtual_time.run(client.delete_with_retry(["/x/a"], 64, 0.5))
    assert seconds == pytest.approx(0.5)
    assert type(failures["/x/a"]) is StorageUnavailableError
    assert "no answer within 0.5 s." in str(failures["/x/a"])
