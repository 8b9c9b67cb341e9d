"""The space that files take."""

from __future__ import annotations

from fsspill.cleanup import Space
from fsspill.cleanup.sessions import FileInfo, IncompleteUpload, Node, Session


def test_a_session_has_the_space_of_its_nodes_and_its_head() -> None:
    """Heartbeats count; uploads are those of the session."""
    node = Node("n", [FileInfo("f", 10, None, 4), FileInfo("g", 20, None)], FileInfo("h", 3, None))
    upload = IncompleteUpload({}, None)
    session = Session("s", {"n": node}, head=FileInfo("head", 5, None, 1), uploads=[upload])
    assert Space.of_node(node) == Space(files=3, nbytes=33, old_nbytes=4)
    assert Space.of_session(session) == Space(files=4, nbytes=38, old_nbytes=5, uploads=1)


def test_spaces_are_added() -> None:
    """The sum of none is nothing."""
    assert Space(1, 2, 3, 4) + Space(10, 20, 30, 40) == Space(11, 22, 33, 44)
    assert sum([], Space()) == Space(0, 0, 0, 0)
