"""The log of a command."""

from __future__ import annotations

import logging

import pytest

from fsspill.cli.log import show_warnings
from fsspill.log import get_logger

fsspill_log = get_logger("fsspill.cleanup")
library_log = logging.getLogger("gcsfs")


def log() -> None:
    """Log what a command may log."""
    fsspill_log.info("a detail")
    fsspill_log.warning("the uploads of %s are not listed", "s3://b")
    try:
        raise ConnectionError("no route")
    except ConnectionError:
        library_log.exception("out of retries")


def test_warnings_are_lines_and_libraries_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback of what fsspill tells by itself; after the command all is as before."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # here: pytest adds its own
    with show_warnings():
        log()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "fsspill: the uploads of s3://b are not listed\n")
    assert not logging.getLogger().handlers
    assert not logging.getLogger("fsspill").handlers


def test_a_log_that_was_set_up_is_kept(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The program that calls the command has decided."""
    with show_warnings():
        library_log.error("out of retries")
    assert "out of retries" in caplog.messages
    assert capsys.readouterr().err == ""
