"""Public: the sessions under a URI, and removal of the dead ones."""

from fsspill.cleanup.clean import Summary, clean
from fsspill.cleanup.listing import scan
from fsspill.cleanup.sessions import Node, Session
from fsspill.cleanup.space import Space

__all__ = ["Node", "Session", "Space", "Summary", "clean", "scan"]
