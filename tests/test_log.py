"""The log, through which no secret passes."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsspill
from fsspill.log import get_logger

PACKAGE = Path(fsspill.__file__).parent
DOOR = PACKAGE / "log.py"
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {DOOR, *(PACKAGE / "hook").iterdir()})
"""All others. The hook imports the standard library alone; it runs where fsspill cannot be
imported, and no configuration has been read."""
TOOLS = ("getLogger", "warn", "print_exc", "print_exception", "print_stack")
"""Functions of Python that write texts to a log or to standard error, by themselves."""
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path, node


def test_nothing_is_logged_but_through_the_one_door() -> None:
    """Loggers come from `get_logger`; nothing writes tracebacks or warnings by itself."""
    bypasses = [
        f"{path.name}:{call.lineno}"
        for path, call in calls()
        if isinstance(call.func, ast.Attribute) and call.args
        if call.func.attr in TOOLS
        or (call.func.attr in LEVELS and ast.unparse(call.func.value) == "logging")
    ]
    assert bypasses == []


def test_every_logger_is_of_its_module() -> None:
    """The name `logger` is nothing but what `get_logger` returned."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and "logger" in map(ast.unparse, node.targets):
                assert ast.unparse(node.value) == "get_logger(__name__)", path


PASSWORD = "hunter2"


def fail() -> None:
    try:
        raise OSError(f"refused http://u:{PASSWORD}@proxy")
    except OSError as error:
        raise ValueError(f"password={PASSWORD}") from error


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING, logging.ERROR])
def test_log_shows_no_secret(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Message, arguments, traceback with its causes, and stack, for every handler."""
    logger = get_logger("fsspill.test")
    caplog.set_level(logging.DEBUG, "fsspill.test")
    try:
        fail()
    except ValueError as error:
        logger.log(level, "cannot: %s, %s", error, {"secret": PASSWORD}, exc_info=True)
    logger.log(level, "token=%s", PASSWORD, stack_info=True)
    assert PASSWORD not in caplog.text
    assert "refused http://u:***@proxy" in caplog.text
    for record in caplog.records:
        assert not record.args
        assert not record.exc_info


def test_a_logger_has_one_filter() -> None:
    """However often it is asked for."""
    assert get_logger("fsspill.test") is get_logger("fsspill.test")
    assert len(get_logger("fsspill.test").filters) == 1
