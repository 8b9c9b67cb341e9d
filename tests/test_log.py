"""The log, through which no secret passes."""

from __future__ import annotations

import ast
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsspill
from fsspill.log import get_logger
from tests.running import PATIENCE

PACKAGE = Path(fsspill.__file__).parent
DOOR = PACKAGE / "log.py"
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {DOOR, *(PACKAGE / "hook").iterdir()})
"""All others. The hook imports the standard library alone; it runs where fsspill cannot be
imported, and no configuration has been read."""
TOOLS = ("getLogger", "warn", "print_exc", "print_exception", "print_stack")
"""Functions of Python that write texts to a log or to standard error, by themselves."""
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")
SILENT = {"cli/log.py", "bench/contenders.py"}
"""Modules that set the handlers and levels of loggers, and log nothing."""


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
        if (call.func.attr in TOOLS and not is_silent(path))
        or (call.func.attr in LEVELS and ast.unparse(call.func.value) == "logging")
    ]
    assert bypasses == []


def is_silent(path: Path) -> bool:
    return str(path.relative_to(PACKAGE)) in SILENT


def test_modules_that_only_set_up_loggers_log_nothing() -> None:
    """They call no method of a logger that writes, and no function of Python that does."""
    called = {
        f"{path.name}:{call.func.attr}"
        for path, call in calls()
        if is_silent(path) and isinstance(call.func, ast.Attribute)
        if call.func.attr in {*LEVELS, *TOOLS} - {"getLogger"}
    }
    assert called == set()


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


logger = get_logger("fsspill.test.incidents")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of the log, in one element that can be changed."""
    now = [1000.0]
    monkeypatch.setattr("fsspill.log.time.monotonic", lambda: now[0])
    return now


def warn(*arguments: object, level: int = logging.WARNING, **keywords: object) -> None:
    """Log a line, always from the same place in the code."""
    logger.log(level, "cannot delete %s", *arguments, **keywords)  # type: ignore[arg-type]


def file(number: int, uri: str = "s3://bucket/x") -> str:
    return f"{uri}/session_1/ray_spilled_objects_ab/f{number}: refused (id {number}F{number})."


def word(number: int) -> str:
    """Return a text of its own for a number, without digits."""
    return f"{number:b}".replace("0", "a").replace("1", "b")


def test_an_incident_of_an_hour_is_nine_lines(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, and less and less often; each with the number of those that are left out."""
    began, times = clock[0], []
    while clock[0] < began + 3600:
        seen = len(caplog.messages)
        warn(file(int(clock[0])))
        if len(caplog.messages) > seen:
            times.append((clock[0] - began) / 60)
        clock[0] += 2
    assert times == [0, 1, 3, 7, 15, 25, 35, 45, 55]
    assert "more" not in caplog.messages[0]
    assert caplog.messages[1].endswith("(29 more lines like this since the last one)")
    warn(file(0, "s3://other/x"))
    assert "s3://other" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (file(1), file(2), 1),
        (file(1), file(1, "s3://second-bucket/x"), 2),
        (file(1), file(1, "s3://bucket/y"), 2),
        (file(1), file(1).replace("refused", "no answer"), 2),
        ("/mnt/disk1/a/f1: I/O error", "/mnt/disk1/a/f2: I/O error", 1),
        ("/mnt/disk1/a/f1: I/O error", "/mnt/disk2/a/f1: I/O error", 2),
        ("object 00ffffff01 (block 3)", "object 00ffffff02 (block 4)", 1),
    ],
)
def test_an_incident_is_told_by_its_storage_and_cause(
    clock: list[float], caplog: pytest.LogCaptureFixture, first: str, second: str, lines: int
) -> None:
    """Not by the file, the object or the numbers in the text."""
    warn(first)
    warn(second)
    assert len(caplog.messages) == lines


def test_another_incident_is_reported_immediately(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """After two minutes without a sign of the last one, however long that had lasted."""
    for _ in range(100):
        warn(file(1))
        clock[0] += 30
    seen = len(caplog.messages)
    clock[0] += 91
    warn(file(1))
    assert len(caplog.messages) == seen + 1
    clock[0] += 60
    warn(file(1))
    assert len(caplog.messages) == seen + 2


def test_errors_are_limited_and_what_is_below_a_warning_is_not(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Someone who asks for the details wants all of them."""
    caplog.set_level(logging.DEBUG, logger.name)
    for level, lines in ((logging.ERROR, 1), (logging.INFO, 3), (logging.DEBUG, 3)):
        caplog.clear()
        for _ in range(3):
            warn(file(1), level=level)
        assert len(caplog.messages) == lines


def test_incidents_take_little_memory(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Errors may have texts of which no two are alike."""
    for number in range(1500):
        warn(word(number))
    assert len(fsspill.log._reported) == 1000


def test_a_page_of_an_error_takes_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """The answer of a server may be one long word."""
    warn("a1" * 50_000)
    warn("/a1" * 30_000)
    assert all(len(text) <= 1000 for _, _, text in fsspill.log._reported)


def test_threads_may_log_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """None of them fails, and lines stay few."""
    failed: list[object] = []

    def log() -> None:
        try:
            for number in range(300):
                warn(word(number))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=log) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert not failed
    assert len(caplog.messages) < 2 * 300


def test_a_line_without_limit_is_of_a_module_that_limits_it_itself() -> None:
    """The drivers' messages by their topics, recoveries by the circuit breaker; each has a test."""
    unlimited = {
        path.name
        for path, call in calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS
        if any(keyword.arg == "extra" for keyword in call.keywords)
    }
    assert unlimited == {"circuit_breaker.py", "driver.py"}
