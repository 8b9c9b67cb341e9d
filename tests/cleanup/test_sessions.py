"""The rules by which a session is alive or dead, as functions of ages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsspill.cleanup.sessions import (
    DAY,
    STALE_AFTER,
    FileInfo,
    IncompleteUpload,
    Node,
    Session,
    classify,
    classify_session,
)

ages = st.lists(st.none() | st.floats(0, 1e7))
seconds = st.floats(0, 1e7)


@given(st.floats(0, STALE_AFTER, exclude_max=True), ages, ages, seconds)
def test_a_fresh_heartbeat_means_alive(
    fresh: float, heartbeats: list[float | None], others: list[float | None], older_than: float
) -> None:
    """A fresh heartbeat decides, whatever the other files and however short the limit."""
    assert classify([*heartbeats, fresh], others, older_than) == "alive"


@given(ages, ages, seconds)
def test_dead_means_that_every_file_is_old(
    heartbeats: list[float | None], others: list[float | None], older_than: float
) -> None:
    """A dead session has a heartbeat, every age is known, and none is below either limit."""
    if classify(heartbeats, others, older_than) == "dead":
        assert heartbeats
        for age in (*heartbeats, *others):
            assert age is not None
            assert age >= older_than
            assert age >= STALE_AFTER


@given(st.lists(seconds, min_size=1), st.lists(seconds), seconds)
def test_old_enough_means_dead(
    heartbeats: list[float], others: list[float], older_than: float
) -> None:
    """A session with a heartbeat becomes dead once all its files are old."""
    limit = max(older_than, STALE_AFTER)
    old = [[age + limit for age in some] for some in (heartbeats, others)]
    assert classify(old[0], old[1], older_than) == "dead"


@given(ages, seconds)
def test_no_heartbeat_means_unknown(others: list[float | None], older_than: float) -> None:
    """Without a heartbeat a session is never dead, however old its files are."""
    assert classify([], others, older_than) == "unknown"


def test_the_age_is_that_of_the_youngest_file() -> None:
    """Spilled files, heartbeats and uploads count for a session, spilled files for a node."""
    node = Node("n1", [FileInfo("f", 3, 40.0), FileInfo("g", 4, 50.0)], FileInfo("h", 0, 30.0))
    session = Session("s", {"n1": node}, head=FileInfo("head", 0, 20.0))
    assert (node.age, node.nbytes) == (40.0, 7)
    assert (session.age, session.nbytes) == (20.0, 7)
    session.uploads.append(IncompleteUpload({}, 10.0))
    assert session.age == 10.0


def test_one_unknown_age_makes_that_of_the_session_unknown() -> None:
    """It may be that of the youngest file; a session without files has no age."""
    session = Session("s", {"n1": Node("n1", [FileInfo("f", 3, None)])}, FileInfo("head", 0, 0.0))
    assert session.age is None
    assert Session("s").age is None


def test_nodes_are_classified_by_their_own_files() -> None:
    """A session that is alive may have dead nodes, and unknown ones without a heartbeat."""
    old = FileInfo("f", 3, 2 * DAY)
    nodes = {"dead": Node("dead", [old], old), "unknown": Node("unknown", [old])}
    session = Session("s", nodes, head=FileInfo("head", 0, 0.0))
    classify_session(session, DAY, STALE_AFTER)
    assert session.liveness == "alive"
    assert {node_id: node.liveness for node_id, node in nodes.items()} == {
        "dead": "dead",
        "unknown": "unknown",
    }
