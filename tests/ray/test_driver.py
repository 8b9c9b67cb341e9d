"""Messages to the drivers, without a cluster."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest

from fsspill.log import FIRST_PAUSE
from fsspill.placement.shared_state import SharedState
from fsspill.ray import driver
from fsspill.ray.driver import DriverNotifier


def notified(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that were logged as sent to the drivers."""
    return [record.getMessage() for record in caplog.records if record.name == driver.__name__]


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the messages that reach the drivers."""
    messages: list[str] = []

    def push(node: str, message: str) -> bool:
        messages.append(f"fsspill on node {node}: {message}")
        return True

    monkeypatch.setattr(driver, "_push_error", push)
    return messages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, in one element that can be changed."""
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def notifier() -> DriverNotifier:
    return DriverNotifier(SharedState("session", "node"), "node")


def test_a_topic_is_notified_once_per_interval(
    pushed: list[str], clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """By all processes of the node together; other topics are not held up by it."""
    first, second = notifier(), notifier()
    for each in (first, second, first):
        each.notify("spill", "no space")
    second.notify("restore", "no file")
    expected = ["fsspill on node node: no space", "fsspill on node node: no file"]
    assert pushed == expected
    assert notified(caplog) == ["no space", "no file"]
    clock[0] += FIRST_PAUSE
    second.notify("spill", "still no space")
    assert pushed == [*expected, "fsspill on node node: still no space"]


def test_an_outage_of_an_hour_is_nine_lines(pushed: list[str], clock: list[float]) -> None:
    """By all processes of the node together, one of which fails every second."""
    first, second = notifier(), notifier()
    began, times = clock[0], []
    while clock[0] < began + 3600:
        seen = len(pushed)
        first.notify("spill", "no space")
        second.notify("spill", "no space")
        if len(pushed) > seen:
            times.append((clock[0] - began) / 60)
        clock[0] += 1
    assert times == [0, 1, 3, 7, 15, 25, 35, 45, 55]
    assert len(pushed) == 9
    clock[0] += 130
    second.notify("spill", "no space once more")
    assert len(pushed) == 10


def test_drivers_see_no_secret(pushed: list[str]) -> None:
    """The reason may be an exception of any package."""
    notifier().notify("setup", "refused sftp://u:pa@hunter2@host")
    assert pushed == ["fsspill on node node: refused sftp://u:***@host"]


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("s3://b/x/session_1_2/ray_spilled_objects_ab12/f0-multi-1-9 at host", "s3://b/x at host"),
        ("file:///d/ray_spilled_objects_ab12/f0-multi-1-9: OSError", "file:///d: OSError"),
        ('"http://h/b/session_1/ray_spilled_objects_ab/f0-multi-1-9".', '"http://h/b".'),
        ("gs://b/session_1/ray_spilled_objects_ab/f-multi-1-9?offset=0&size=9 x", "gs://b x"),
    ],
)
def test_drivers_see_the_uri_and_the_log_the_file(
    pushed: list[str], caplog: pytest.LogCaptureFixture, where: str, shown: str
) -> None:
    """The name of a file has 200 characters that tell a user nothing."""
    node = "0123456789abcdef" * 3
    DriverNotifier(SharedState("session", node), node).notify("spill", f"cannot write {where}")
    assert pushed == [f"fsspill on node 0123456789ab: cannot write {shown}"]
    assert notified(caplog) == [f"cannot write {where}"]


def test_a_message_that_another_topic_has_said_is_left_out(pushed: list[str]) -> None:
    """Also by another process of the node; not the other way round."""
    notifier().notify("outage", "refused; ray.get waits")
    notifier().notify("restore", "refused", part_of="outage")
    notifier().notify("restore", "other", part_of="another outage")
    assert [line.partition(": ")[2] for line in pushed] == ["refused; ray.get waits", "other"]


def test_a_message_that_reached_no_driver_is_repeated(
    pushed: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until this process is connected the message is logged once, and pushed with a later call."""
    each = notifier()
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_push_error", lambda node, message: False)
        each.notify("spill", "no space")
    each.notify("spill", "no space")
    each.notify("spill", "no space")
    assert pushed == ["fsspill on node node: no space"]
    assert notified(caplog) == ["no space"]


def test_without_a_connection_nothing_is_pushed(caplog: pytest.LogCaptureFixture) -> None:
    """Outside a cluster a notification is a line in the log."""
    pytest.importorskip("ray")
    with caplog.at_level(logging.WARNING):
        notifier().notify("spill", "no space")
    assert notified(caplog) == ["no space"]
    assert SharedState("session", "node").read("incident", "spill") is None


def test_messages_are_limited_where_the_time_of_the_last_cannot_be_shared(
    pushed: list[str], clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary directory is full, and the time of a message an hour ago is still in it."""
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(tmp_path))
    each = notifier()
    each.notify("spill", "an hour ago")
    clock[0] += 3600
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        for _ in range(100):
            each.notify("spill", "no space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(pushed) == 2
    clock[0] += FIRST_PAUSE
    each.notify("spill", "still no space")
    assert len(pushed) == 3


def test_a_clock_that_is_set_back_silences_nothing(pushed: list[str], clock: list[float]) -> None:
    """A message of the future does not count as a recent one."""
    each = notifier()
    each.notify("spill", "no space")
    clock[0] -= 3600
    each.notify("spill", "no space")
    each.notify("spill", "no space")
    assert len(pushed) == 2


def test_a_ray_without_messages_leaves_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A spill that fails reports it and raises nothing, whatever Ray lacks."""
    utils = pytest.importorskip("ray._private.utils")
    monkeypatch.delattr(utils, "push_error_to_driver")
    notifier().notify("spill", "no space")
    assert notified(caplog) == ["no space"]
