"""Verdicts."""

from __future__ import annotations

import pytest

from fsspill.diagnosis.verdict import Checklist, Finding, failed, ok, skipped, warning
from fsspill.errors import ConfigError, StorageUnavailableError


def raising(error: BaseException) -> Finding:
    raise error


def test_a_check_that_raises_is_a_verdict_and_stops_no_other() -> None:
    """What was expected is the advice."""
    checks = Checklist("s3://b")
    checks.run("a", lambda: raising(ConfigError("cannot a: it is so. Expected that: do this.")))
    checks.run("b", lambda: raising(KeyError("key")), otherwise="warning")
    checks.run("c", lambda: ok("all"))
    a, b, c = checks.verdicts
    assert a == ("s3://b", "a", "failed", "cannot a: it is so.", "Expected that: do this.")
    assert b.outcome == "warning"
    assert b.found.startswith("cannot check b s3://b: KeyError")
    assert c == ("s3://b", "c", "ok", "all", "")


@pytest.mark.parametrize("finding", [failed("x", "y"), skipped("x")])
def test_what_depends_on_a_check_that_did_not_succeed_is_skipped(finding: Finding) -> None:
    """With the reason; a warning is a success."""
    checks = Checklist()
    checks.run("a", lambda: finding)
    checks.run("b", lambda: ok(""), needs=["a"])
    checks.run("c", lambda: warning("x", "y"))
    checks.run("d", lambda: ok(""), needs=["c"])
    assert [verdict.outcome for verdict in checks.verdicts[1:]] == ["skipped", "warning", "ok"]
    assert checks.verdicts[1].found == "not tried: it needs a"


def test_nothing_more_is_asked_of_a_storage_that_does_not_answer() -> None:
    """Each check would wait as long."""
    checks = Checklist("s3://b")
    checks.run("a", lambda: raising(StorageUnavailableError("cannot a: no answer.")))
    checks.run("b", lambda: raising(AssertionError("was asked")))
    assert checks.verdicts[1].found == "not tried: the storage does not answer"


def test_ctrl_c_is_no_verdict() -> None:
    """It ends the command."""
    with pytest.raises(KeyboardInterrupt):
        Checklist().run("a", lambda: raising(KeyboardInterrupt()))


def test_the_progress_names_each_check() -> None:
    """As it begins."""
    seen = []
    checks = Checklist(progress=lambda *step: seen.append(step))
    checks.run("a", lambda: ok(""))
    assert seen == [("a", 0, 0)]
