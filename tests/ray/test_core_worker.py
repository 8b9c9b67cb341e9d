"""The object store of Ray's core worker, without a cluster."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fsspill.ray import core_worker
from fsspill.ray.core_worker import CoreWorkerStore, connected_worker
from tests.running import PROGRAMS


def test_an_error_before_the_object_was_created_passes_through() -> None:
    """Ray tries again by itself."""
    broken = SimpleNamespace(put_file_like_object=lambda *a: 1 / 0)
    store = CoreWorkerStore(worker=lambda: SimpleNamespace(core_worker=broken))
    with pytest.raises(ZeroDivisionError):
        store.put_file_like_object(b"", 1, io.BytesIO(b"x"), b"r", b"")


def test_an_object_that_cannot_be_completed_ends_the_process() -> None:
    """Ray would keep it unsealed, and ray.get wait forever; the end of the worker frees it."""
    ended = subprocess.run(
        [sys.executable, str(PROGRAMS / "incomplete_object.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "ending this IO worker" in ended.stderr
    assert "the storage went away" in ended.stderr
    assert ended.stdout == "the storage went away\n"


def test_a_process_that_is_not_connected_has_no_object_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a grace period the request fails with the reason."""
    pytest.importorskip("ray")
    monkeypatch.setattr(core_worker, "_GRACE_PERIOD", 0.01)
    with pytest.raises(RuntimeError, match="expected this process to be connected to Ray"):
        connected_worker()
