"""Record of what a node spills, restores and deletes: metrics, and a line of the log each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fsspill.log import get_logger
from fsspill.metrics import Metrics
from fsspill.storage.layout import FileRef
from fsspill.transfer.base import FrameRef
from fsspill.transfer.spill_file import WrittenFile

__all__ = ["Activity"]

logger = get_logger(__name__)


class Activity:
    """Record of the activity of one node's files, in this process.

    Parameters
    ----------
    metrics : Metrics
        Counts it.

    Notes
    -----
    Each spill and restore is one line at DEBUG, of words ``name=value``.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def record_spill(self, written: Sequence[WrittenFile], tier: str, seconds: float) -> None:
        """Record the files that a call has written, and the seconds it took."""
        if not written:
            return
        objects = nbytes = at_rest = 0
        for file in written:
            named = file.ref.named_counts or (0, 0)
            stored = sum(frame.size for frame in file.frames)
            self._add_file(file.ref.location.uri, tier, *named, stored)
            objects, nbytes, at_rest = objects + named[0], nbytes + named[1], at_rest + stored
        self._metrics.observe("fsspill_spill_seconds", seconds, tier=tier)
        logger.debug(
            "spilled objects=%d files=%d bytes=%d stored_bytes=%d seconds=%.3f uris=%s",
            objects,
            len(written),
            nbytes,
            at_rest,
            seconds,
            ",".join(sorted({file.ref.location.uri for file in written})),
        )

    def _add_file(self, uri: str, tier: str, objects: int, nbytes: int, stored: int) -> None:
        add = self._metrics.add
        add("fsspill_spilled_files", uri=uri, tier=tier)
        add("fsspill_spilled_objects", objects, uri=uri, tier=tier)
        add("fsspill_spilled_bytes", nbytes, uri=uri, tier=tier)
        add("fsspill_stored_bytes", stored, uri=uri, tier=tier)

    def record_restore(self, frame: FrameRef, tier: str, seconds: float) -> None:
        """Record a frame that was restored, and the seconds it took."""
        uri = frame.file.location.uri
        self._metrics.add("fsspill_restored_objects", uri=uri, tier=tier)
        self._metrics.add("fsspill_restored_bytes", frame.nbytes, uri=uri, tier=tier)
        self._metrics.observe("fsspill_restore_seconds", seconds, tier=tier)
        logger.debug(
            "restored bytes=%d tier=%s seconds=%.3f url=%s", frame.nbytes, tier, seconds, frame.url
        )

    def record_delete(self, files: Iterable[FileRef]) -> None:
        """Record files that were deleted."""
        for file in files:
            self._metrics.add("fsspill_deleted_files", uri=file.location.uri)

    def record_failover(self, uri: str) -> None:
        """Record that a URI became unhealthy."""
        self._metrics.add("fsspill_failovers", uri=uri)

    def record_refusal(self) -> None:
        """Record an object that no URI takes."""
        self._metrics.add("fsspill_refused_objects")
