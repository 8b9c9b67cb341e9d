"""Files that a batch leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fsspill import FsspillError, Settings, StorageUnavailableError
from fsspill.format.frame import Frame
from fsspill.placement.failover import FailoverWriter
from fsspill.placement.placement import Placement
from fsspill.placement.refusals import Refusals
from fsspill.placement.shared_state import SharedState
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.retry import Retrier
from fsspill.transfer.local import LocalTransfer
from fsspill.transfer.spill_file import Encoding, FailedWrite, SpillFile, WrittenFile

SETTINGS = Settings("memory://bucket/x")
LOCATION = SpillLocation(
    "memory://bucket/x", prefix="", session_name="session", node_id="node", shared=False
)
ERROR = StorageUnavailableError("down")


class ScriptedTransfer(LocalTransfer):
    """A transfer whose writes have abandoned attempts, and whose deletions fail."""

    def __init__(self, *, succeeds: bool, deletes: bool) -> None:
        super().__init__([LOCATION], SETTINGS)
        self._succeeds = succeeds
        self._deletes = deletes
        self.abandoned: list[FileRef] = []
        self.deleted: list[FileRef] = []
        self.failovers: list[FsspillError] = []

    def write(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[WrittenFile | FailedWrite]:
        [(_, ref)] = files
        self.abandoned = [ref.renamed(), ref.renamed()]
        if self._succeeds:
            return [WrittenFile(ref, [], self.abandoned)]
        return [FailedWrite(ERROR, self.abandoned)]

    def delete(self, files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        self.deleted += files
        return {} if self._deletes else dict.fromkeys(files, ERROR)


def write(transfer: ScriptedTransfer) -> tuple[FailoverWriter, list[WrittenFile]]:
    placement = Placement(
        [LOCATION], SETTINGS, SharedState("session", "node"), lambda location, name: None
    )
    writer = FailoverWriter(
        transfer,
        placement.candidates(),
        renew=lambda location: False,
        refusals=Refusals(lambda error: None),
        on_failover=transfer.failovers.append,
    )
    file = SpillFile([Frame.of(b"", b"", b"data")], Encoding("xxh3_128"))
    written = writer.write([file], 1.0)
    placement.shut_down()
    return writer, written


@pytest.mark.parametrize("succeeds", [True, False])
def test_files_of_abandoned_attempts_are_deleted(succeeds: bool) -> None:
    """All of them, whether a later attempt succeeded or none did."""
    transfer = ScriptedTransfer(succeeds=succeeds, deletes=True)
    writer, written = write(transfer)
    assert len(written) == succeeds
    assert transfer.deleted == transfer.abandoned
    assert writer.orphans == {}


def test_an_error_that_marks_a_uri_unhealthy_names_it() -> None:
    """As an attribute: the text may name a file of another URI that begins alike."""
    transfer = ScriptedTransfer(succeeds=False, deletes=True)
    write(transfer)
    assert [error.uri for error in transfer.failovers] == [LOCATION.uri]


@pytest.mark.parametrize("succeeds", [True, False])
def test_files_that_cannot_be_deleted_are_orphans(succeeds: bool) -> None:
    """None is forgotten: later calls delete them."""
    transfer = ScriptedTransfer(succeeds=succeeds, deletes=False)
    writer, _ = write(transfer)
    assert list(writer.orphans) == transfer.abandoned
