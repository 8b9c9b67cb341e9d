"""A demo on one machine: a Ray program four times larger than its object store."""

from __future__ import annotations

import atexit
import glob
import importlib.util
import os
import random
import shutil
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fsspill.child_process import wait_for_children
from fsspill.config import make_external_storage
from fsspill.errors import FsspillError, MissingPackageError
from fsspill.external_storage import ExternalStorage
from fsspill.progress import Progress, ignore_progress
from fsspill.secrets import redact
from fsspill.settings import MIB
from fsspill.testing.s3_server import S3Server

__all__ = ["Report", "run"]

OVERCOMMIT = 4
"""Bytes of objects for each byte of the object store."""

OBJECT_SIZE = 4_000_000

EMPTY_TIMEOUT = 120.0
"""Seconds that Ray may take to delete objects that are no longer referenced."""

_END_SECONDS = 30.0
"""Seconds that processes of the session may take to end after Ray's."""

_BUCKET = "fsspill-demo"


@dataclass
class Report:
    """The outcome of a demo.

    Attributes
    ----------
    uri : str
        The URI that it spilled to.
    objects, object_bytes : int
        Objects that the program created, and their bytes.
    corrupted : int
        Objects that were not restored as they were created.
    spilled_bytes, restored_bytes : int
        Bytes that Ray counted.
    spill_seconds, restore_seconds : float
        Time that Ray counted for them, in which several IO workers may overlap.
    files_written, files_left : int
        Fused files in the storage before the objects were dropped, and at the end.
    """

    uri: str
    objects: int = 0
    object_bytes: int = 0
    corrupted: int = 0
    spilled_bytes: int = 0
    spill_seconds: float = 0.0
    restored_bytes: int = 0
    restore_seconds: float = 0.0
    files_written: int = 0
    files_left: int = 0

    @property
    def succeeded(self) -> bool:
        """True if objects were spilled, all were restored intact, and no file is left."""
        return not self.corrupted and not self.files_left and self.files_written > 0


def run(
    uri: str | None = None,
    *,
    s3: bool = False,
    object_store_memory: int = 128 * MIB,
    progress: Progress = ignore_progress,
) -> Report:
    """Run the demo.

    Parameters
    ----------
    uri : str, optional
        The URI to spill to; a new temporary directory if not given. Other files there are not
        touched.
    s3 : bool, optional
        Spill to an S3 server that is started for the demo, instead of `uri`.
    object_store_memory : int, optional
        Bytes of Ray's object store. The objects are four times as large.
    progress : callable, optional
        Receives the number of objects or files done; see `fsspill.progress`.

    Returns
    -------
    Report
        The outcome.

    Raises
    ------
    FsspillError
        The URI cannot be spilled to; Ray was not started.
    """
    with ExitStack() as stack:
        # A cluster for a minute on this machine needs no token, which Ray would write to the user's
        # home directory, and demand from then on of every `ray start`.
        stack.enter_context(_variables({"RAY_AUTH_MODE": "disabled", **os.environ}))
        if s3:
            progress("starting an S3 server", 0, 0)
            uri = stack.enter_context(_s3_bucket())
        uri = uri or stack.enter_context(_temporary_directory())
        report = Report(uri)
        session = stack.enter_context(_no_session_left())
        ray = stack.enter_context(_cluster(uri, object_store_memory, progress))
        session.append(ray._private.worker._global_node.get_session_dir_path())
        storage = _storage_of_this_node(ray, uri)
        _spill_and_restore(ray, storage, report, object_store_memory, progress)
        _count_bytes(ray, report)
        _wait_until_empty(storage, report, progress)
    return report


@contextmanager
def _temporary_directory() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="fsspill-demo-")
    try:
        yield f"file://{directory}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _s3_bucket() -> Iterator[str]:
    with S3Server() as server, _variables(server.environment):
        server.create_bucket(_BUCKET)
        yield f"s3://{_BUCKET}"


@contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for the time of a block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _RayError(FsspillError):
    """A start of Ray that failed for reasons of Ray."""


@contextmanager
def _no_session_left() -> Iterator[list[str]]:
    """Remove at exit what Ray writes about a session, unless that fails: then it is wanted.

    Not before: Ray ends what an interrupted start has begun when Python exits. The caller adds the
    directory of the session to the list; without, it is a new one of this process.
    """
    session: list[str] = []
    atexit.register(_remove_session, session, set(_find_sessions()))
    try:
        yield session
    except Exception as error:
        if isinstance(error, _RayError) or not isinstance(error, FsspillError):
            atexit.unregister(_remove_session)
        raise


def _find_sessions() -> Iterator[str]:
    """Yield the directories of sessions that this process has begun, in the places of Ray."""
    places = (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp")
    for place in filter(None, places):
        yield from glob.iglob(f"{glob.escape(place)}/ray/session_*_{os.getpid()}")


def _remove_session(known: Sequence[str], others: Container[str]) -> None:
    wait_for_children(_END_SECONDS)
    for session in known or [found for found in _find_sessions() if found not in others]:
        shutil.rmtree(session, ignore_errors=True)
        latest = f"{os.path.dirname(session)}/session_latest"
        with suppress(OSError):
            if os.readlink(latest) == session:
                os.remove(latest)


@contextmanager
def _cluster(uri: str, object_store_memory: int, progress: Progress) -> Iterator[Any]:
    ray = _import_ray()
    progress("starting Ray", 0, 0)
    ray_has_started = False
    try:
        _start(ray, uri, object_store_memory)
        ray_has_started = True
        yield ray
    finally:
        progress("stopping Ray", 0, 0)
        ray.shutdown()
        if ray_has_started:
            wait_for_children(_END_SECONDS)


def _start(ray: Any, uri: str, object_store_memory: int) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=1,
            object_store_memory=object_store_memory,
            object_spilling_directory=uri,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
        )
    except FsspillError:
        raise
    except Exception as error:
        raise _RayError(f"cannot start Ray for the demo: {redact(str(error))}") from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            'cannot run the demo: expected the package ray. Install it: pip install "fsspill[ray]"'
        ) from error
    from fsspill.ray import install, is_installed

    if importlib.util.find_spec("grpc") is None:
        raise MissingPackageError(
            "cannot run the demo: expected the package grpcio, which asks Ray for what it spilled. "
            'Install it: pip install "fsspill[cli]"'
        )
    if not is_installed():
        install()
    return ray


def _storage_of_this_node(ray: Any, uri: str) -> ExternalStorage:
    """Return the storage as this node's IO workers see it, to list its files."""
    node = ray._private.worker._global_node
    storage = make_external_storage(
        {"type": "fsspec", "params": {"uri": uri}},
        node_id=node.node_id,
        session_name=node.session_name,
    )
    assert isinstance(storage, ExternalStorage)
    return storage


def _spill_and_restore(
    ray: Any, storage: ExternalStorage, report: Report, store: int, progress: Progress
) -> None:
    total = -(-OVERCOMMIT * store // OBJECT_SIZE)
    refs = []
    for index in range(total):
        refs.append(ray.put(_content(index)))
        progress("created", index + 1, total)
    report.objects, report.object_bytes = total, total * OBJECT_SIZE
    for index, ref in enumerate(refs):
        report.corrupted += ray.get(ref) != _content(index)
        progress("read back and verified", index + 1, total)
    report.files_written = len(storage.list_spilled_files())


def _content(index: int) -> bytes:
    return random.Random(index).randbytes(OBJECT_SIZE)


def _count_bytes(ray: Any, report: Report) -> None:
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    # By its address: other clusters may run on this machine.
    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    report.spilled_bytes = stats.spilled_bytes_total
    report.spill_seconds = stats.spill_time_total_s
    report.restored_bytes = stats.restored_bytes_total
    report.restore_seconds = stats.restore_time_total_s


def _wait_until_empty(storage: ExternalStorage, report: Report, progress: Progress) -> None:
    """Wait for Ray to delete the files: no reference outlived the function that held them."""
    end = time.monotonic() + EMPTY_TIMEOUT
    while True:
        report.files_left = len(storage.list_spilled_files())
        gone = max(0, report.files_written - report.files_left)
        progress("removed from storage", gone, report.files_written)
        if not report.files_left or time.monotonic() > end:
            return
        time.sleep(0.2)
