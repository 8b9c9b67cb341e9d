"""The space that files take. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fsspill.cleanup.sessions import FileInfo, Node, Session

__all__ = ["Space"]


@dataclass(frozen=True)
class Space:
    """The space of some files, heartbeats included.

    Attributes
    ----------
    files : int
        Their number. A file that is deleted counts as long as an old version of it is kept.
    nbytes : int
        All their bytes, which is what the storage bills.
    old_nbytes : int
        Those of old versions among them: of files that are deleted or were written again.
    uploads : int
        Incomplete multipart uploads, whose bytes are not known.
    """

    files: int = 0
    nbytes: int = 0
    old_nbytes: int = 0
    uploads: int = 0

    def __add__(self, other: Space) -> Space:
        return Space(
            self.files + other.files,
            self.nbytes + other.nbytes,
            self.old_nbytes + other.old_nbytes,
            self.uploads + other.uploads,
        )

    @classmethod
    def of_files(cls, files: Iterable[FileInfo]) -> Space:
        """Return the space of files."""
        found = list(files)
        nbytes = sum(file.nbytes for file in found)
        return cls(len(found), nbytes, sum(file.old_nbytes for file in found))

    @classmethod
    def of_node(cls, node: Node) -> Space:
        """Return the space of a node's files."""
        return cls.of_files([*node.files, *([node.heartbeat] if node.heartbeat else [])])

    @classmethod
    def of_session(cls, session: Session) -> Space:
        """Return the space of a session's files, and its uploads."""
        return cls.of_files([*session.files, *session.heartbeats]) + cls(
            uploads=len(session.uploads)
        )
