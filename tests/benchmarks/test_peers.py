"""Every tool of the comparison moves the right bytes, and has a row for each operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.bench.measure import Batch
from fsspill.settings import MIB
from tests.benchmarks import peers
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.movers import BUCKET, FSSPILL, MOVERS, Mover, is_installed
from tests.benchmarks.peers import PeerRow, compare

pytest.importorskip("s3fs")


@pytest.fixture(scope="module", params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[LinkServer]:
    with LinkServer(0, None, tls=request.param == "https") as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.mark.parametrize("name", MOVERS)
def test_it_moves_the_right_bytes(name: str, server: LinkServer) -> None:
    """The process of each tool compares what came back; it ends if that differs."""
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    rows = list(compare(Batch(2, MIB), list({FSSPILL: 1, name: 1}), 1, server, (0, 0)))
    upload, download = (row for row in rows if row.name == name)
    assert (upload.operation, download.operation) == ("upload", "download")
    assert download.requests["GetObject"] >= 2
    assert upload.peak > MIB
    assert all(len(row.cells) == len(PeerRow.headings) for row in rows)


def test_a_tool_that_fails_is_left_out(
    server: LinkServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others are measured, and what it wrote names the cause."""
    rows = list(compare(Batch(1, MIB), [FSSPILL, "unknown"], 1, server, (0, 0)))
    assert [row.name for row in rows] == [FSSPILL, FSSPILL]
    assert "KeyError: 'unknown'" in (error := capfd.readouterr().err)
    assert "unknown is left out" in error


def test_a_tool_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line names it."""
    monkeypatch.setattr(peers, "is_installed", lambda name: name != "awscrt")
    assert peers.installed(["awscrt", "obstore"]) == [FSSPILL, "obstore"]
    assert capsys.readouterr().err == "awscrt is left out: it is not installed\n"


class _Altering(Mover):
    """A tool that alters the last byte."""

    def upload(self) -> None:
        """Do nothing."""

    def download(self) -> None:
        """Copy all files but their last byte."""
        self.target.mkdir()
        for source in self.sources:
            (self.target / source.name).write_bytes(source.read_bytes()[:-1] + b"?")


def test_altered_files_are_an_error(tmp_path: Path) -> None:
    """Every byte is compared."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "1").write_bytes(b"abc")
    mover = _Altering(tmp_path)
    mover.download()
    with pytest.raises(ValueError, match="has other bytes than"):
        mover.verify()
