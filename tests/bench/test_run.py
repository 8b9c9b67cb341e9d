"""Measurements of a URI."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fsspill import ConfigError
from fsspill.bench.contenders import FSSPILL, RAY
from fsspill.bench.run import expect_requests, run
from fsspill.errors import StorageNotFoundError
from fsspill.settings import MIB
from tests.at_rest import keys, open_uploads
from tests.recording import RequestRecorder
from tests.running import INTERRUPTIBLE, Program, poll

SIZE = 4 * MIB


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one round of everything, however long it takes."""
    for module in ("measure", "run"):
        monkeypatch.setattr(f"fsspill.bench.{module}.MAX_ROUNDS", 1)


@pytest.mark.usefixtures("one_round")
def test_a_bucket_is_measured_and_left_empty(recorder: RequestRecorder, s3_bucket: str) -> None:
    """With its parameters and Ray's own, by no more requests than were announced."""
    for package in ("ray", "smart_open", "obstore"):
        pytest.importorskip(package)
    uri, steps = f"s3://{s3_bucket}/spill", []
    report = run(uri, nbytes=SIZE, seconds=3600, progress=lambda *step: steps.append(step))
    names = [each.contender.name for each in report.measured]
    assert names[0] == FSSPILL
    assert names.count(RAY) == 2
    assert {"range_size=8 MiB", "file_size=16 MiB", "engine=fsspec"} <= set(names)
    assert report.files_left == 0
    assert keys() == open_uploads() == []
    assert {step for step, done, total in steps if done == total} >= {"making objects", "1 x 4 MiB"}
    expected = expect_requests(uri, nbytes=SIZE)
    methods = [request.method for request in recorder.requests()]
    assert methods.count("GET") <= expected.reads
    assert methods.count("PUT") <= expected.writes


def test_a_directory_is_measured_and_left_empty(tmp_path: Path) -> None:
    """Beside Ray's own class."""
    pytest.importorskip("ray")
    report = run(f"file://{tmp_path}", nbytes=SIZE, seconds=1)
    names = [each.contender.name for each in report.measured]
    assert names == [FSSPILL, RAY, FSSPILL, RAY]
    assert report.notes == []
    assert list(tmp_path.iterdir()) == []


def test_other_storage_is_measured_without_ray(memory_uri: str) -> None:
    """The report says so."""
    report = run(memory_uri, nbytes=SIZE, seconds=1)
    assert RAY not in [each.contender.name for each in report.measured]
    assert report.notes[0].startswith("Ray has no class of its own")
    assert report.baseline(report.measured[0].batch).contender.name == FSSPILL


@pytest.mark.usefixtures("one_round")
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_class_of_ray_that_fails_is_left_out(
    calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once or later; the report has the reason, and fsspill is measured all the same."""
    pytest.importorskip("ray")
    from ray._private.external_storage import FileSystemStorage

    spill, left = FileSystemStorage.spill_objects, [calls]

    def fail(self: object, *arguments: object) -> object:
        if not left[0]:
            raise OSError("broken disk")
        left[0] -= 1
        return spill(self, *arguments)

    monkeypatch.setattr(FileSystemStorage, "spill_objects", fail)
    report = run(f"file://{tmp_path}", nbytes=SIZE, seconds=3600)
    [note] = report.notes
    assert "OSError: broken disk" in note
    names = [each.contender.name for each in report.measured]
    assert names[0] == names[-1] == FSSPILL
    assert (RAY in names) is (calls == 2)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_does_not_exist(s3_bucket: str) -> None:
    """It is refused as at Ray's start."""
    with pytest.raises(StorageNotFoundError):
        run("s3://no-such-bucket/spill", nbytes=SIZE, seconds=1)


@pytest.mark.parametrize("nbytes", [MIB, 2**60])
def test_sizes_have_limits(nbytes: int, memory_uri: str) -> None:
    """A batch fits into the memory of this machine, twice."""
    with pytest.raises(ConfigError, match="a quarter of the memory"):
        run(memory_uri, nbytes=nbytes)


def test_an_interrupt_leaves_nothing(recorder: RequestRecorder, s3_bucket: str) -> None:
    """Ctrl-C in the middle of the uploads; the exit code is that of shells."""
    arguments = [f"s3://{s3_bucket}/spill", "--size", "32MiB", "--seconds", "3600"]
    with Program(*INTERRUPTIBLE[1:], "bench", *arguments, environment=dict(os.environ)) as program:
        poll(lambda: has_written(recorder), "the first upload of a batch")
        program.send_signal(signal.SIGINT)
        assert program.status() == 130
    assert keys() == open_uploads() == []


def has_written(recorder: RequestRecorder) -> bool:
    uploads = [request for request in recorder.requests() if request.method == "PUT"]
    return len(uploads) > 2
