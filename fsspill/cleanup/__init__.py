"""Public: the sessions under a URI, and removal of the dead ones."""

from fsspill.cleanup.clean import Summary, clean
from fsspill.cleanup.listing import scan
from fsspill.cleanup.sessions import Node, Session

__all__ = ["Node", "Session", "Summary", "clean", "scan"]
