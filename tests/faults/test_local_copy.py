"""Every fault of a local copy and of its disk: the bucket answers, and no spill fails for it.

After each case all objects have the bytes that were spilled, and neither the bucket nor the
directory has a file that no URL names.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.local_copy import copy_file, directory
from fsspill.placement import background
from fsspill.process_local import ProcessLocal
from fsspill.settings import MIB
from fsspill.storage import mount
from fsspill.storage.s3 import S3Client
from tests.at_rest import keys
from tests.hung_mount import HungMount
from tests.other_users import fill, small_disk
from tests.running import PATIENCE, poll
from tests.samples import compressible_bytes, random_bytes

KIB = 2**10
SMALL = [100 * KIB, 200 * KIB]
SIZES = [*SMALL, 9 * MIB, 17 * MIB]
"""Two objects of a fused file, one of two blocks and one of three, which is sent in parts."""

WRITES = 27
"""Calls that write copies of `SIZES`: of 1 MiB at most each."""

VARIANTS: dict[str, dict[str, Any]] = {
    "raw": {},
    "zstd": {"compression": "zstd"},
    "filesystem": {"engine": "fsspec"},
    "zstd-filesystem": {"compression": "zstd", "engine": "fsspec"},
}
IN_EVERY_RUN = {"raw", "zstd-filesystem"}


@functools.cache
def make_data(size: int, seed: int, compressible: bool) -> bytes:
    return compressible_bytes(size, seed) if compressible else random_bytes(size, seed)


class Node:
    """A node with local copies, and the objects that it has spilled."""

    def __init__(
        self, root: Path, node_id: str = "node", sizes: Sequence[int] = SIZES, **parameters: Any
    ) -> None:
        self.root = root
        self.path = root / "copies" / node_id
        self.store = InMemoryObjectStore()
        self.storage = ExternalStorage(
            "s3://bucket/prefix",
            node_id=node_id,
            session_name="copies",
            object_store=self.store,
            **{"cache_dir": str(root), "cache_max_bytes": 2**30, **parameters},
        )
        self.data = {
            b"%d" % seed: make_data(size, seed, "compression" in parameters)
            for seed, size in enumerate(sizes)
        }
        self.urls: dict[bytes, bytes] = {}

    def spill(self) -> None:
        for ref, data in self.data.items():
            self.store.put(ref, data)
        urls = self.storage.spill_objects(list(self.data))
        assert len(urls) == len(self.data)
        self.urls = dict(zip(self.data, urls, strict=True))

    def check(self) -> None:
        """Restore every object, and compare it."""
        for ref, url in self.urls.items():
            self.store.delete(ref)
            self.storage.restore_spilled_objects([ref], [url])
            assert self.store.get(ref) == self.data[ref]

    def copies(self) -> list[Path]:
        """Return the copies, the largest first."""
        found = self.path.glob("*-multi-*") if self.path.is_dir() else []
        return sorted(found, key=lambda path: -path.stat().st_size)

    def end(self) -> None:
        """Delete every object, and then the node."""
        self.storage.delete_spilled_objects(list(self.urls.values()))
        poll(lambda: not keys("bucket"), "the bucket to be empty")
        assert not self.copies()
        assert not list(self.path.glob("*.part"))
        self.storage.destroy_external_storage()
        assert not self.path.exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(
    params=[
        pytest.param(parameters, id=name, marks=[] if name in IN_EVERY_RUN else pytest.mark.nightly)
        for name, parameters in VARIANTS.items()
    ]
)
def node(request: pytest.FixtureRequest, s3_bucket: str, root: Path) -> Iterator[Node]:
    if "compression" in request.param:
        pytest.importorskip("zstandard")
    node = Node(root, **request.param)
    node.spill()
    assert len(node.copies()) == 3
    yield node
    node.end()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size * 2 // 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace_by_another(path: Path) -> None:
    size = path.stat().st_size
    others = b"".join(
        other.read_bytes() for other in path.parent.glob("*-multi-*") if other != path
    )
    path.write_bytes((others * (size // len(others) + 1))[:size])


def become_a_link(path: Path) -> None:
    path.rename(moved := path.with_name("moved"))
    path.symlink_to(moved)


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS = (
    truncate, empty, lengthen, flip, zero, replace_by_another, Path.unlink, become_a_link,
    become_a_directory, become_a_pipe,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_copy_that_is_wrong_is_not_used(node: Node, fault: Callable[[Path], None]) -> None:
    """Whatever became of it while nobody looked."""
    for copy in node.copies():
        fault(copy)
    node.check()
    leave_nothing(node)


def leave_nothing(node: Node) -> None:
    """Remove what a test has put into the directory, which is not fsspill's to remove."""
    for path in node.path.iterdir() if node.path.is_dir() else ():
        if path.is_dir():
            path.rmdir()
        elif path.name == "moved":
            path.unlink()


@pytest.mark.parametrize("fault", [truncate, flip, zero, Path.unlink], ids=lambda f: f.__name__)
def test_a_copy_that_becomes_wrong_under_its_reader_is_not_used(
    node: Node, fault: Callable[[Path], None]
) -> None:
    """After the first bytes were read: each block is verified when it is used."""
    put = node.store.put_file_like_object
    copies = {copy.name: copy for copy in node.copies()}

    def strike(metadata: bytes, size: int, file_like: Any, ref: Any, owner: bytes) -> None:
        copy = copies[node.urls[ref].decode().partition("?")[0].rpartition("/")[2]]
        if copy.exists():
            fault(copy)
        put(metadata, size, file_like, ref, owner)

    node.store.put_file_like_object = strike  # type: ignore[method-assign]
    node.check()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_directory_that_is_removed_is_not_needed(node: Node, level: int) -> None:
    """That of the node, of its session, and that of the configuration."""
    shutil.rmtree((node.path, node.path.parent, node.root)[level])
    node.check()
    before = keys("bucket")
    node.storage.delete_spilled_objects(list(node.urls.values()))
    assert before
    assert not keys("bucket")
    node.spill()
    node.check()
    node.root.mkdir(exist_ok=True)


def test_copies_are_made_again_after_the_directory_was_removed(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute later, as it was not the end of the node."""
    node = Node(root)
    node.spill()
    shutil.rmtree(node.path)
    monkeypatch.setattr(directory, "_REMOVED_SECONDS", 0)
    node.spill()
    assert len(node.copies()) == 3
    node.storage.destroy_external_storage()


def alter(content: bytearray, made: random.Random) -> None:
    """Replace some bytes anywhere by others, more or fewer."""
    start = made.randrange(len(content))
    content[start : start + made.randrange(100)] = made.randbytes(made.randrange(100))


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_any_altered_copy_is_found(s3_bucket: str, root: Path, examples: int) -> None:
    """Bytes altered, cut out or added anywhere."""
    node = Node(root)
    node.spill()
    at_rest = {copy: copy.read_bytes() for copy in node.copies()}

    @settings(max_examples=examples, database=None)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        made = random.Random(seed)
        for copy, right in at_rest.items():
            content = bytearray(right)
            for _ in range(made.randrange(3)):
                alter(content, made)
            copy.write_bytes(content)
        node.check()

    check()
    node.end()


def failing(code: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def failures() -> Iterator[Any]:
    """Yield functions and errors: every function fails, and is without room, in every run."""
    for function in ("writev", "ftruncate", "lseek", "replace", "flock"):
        for code in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE):
            in_every_run = function == "writev" or code in (errno.EIO, errno.ENOSPC)
            marks = () if in_every_run else pytest.mark.nightly
            yield pytest.param(function, code, id=f"{function}-{code}", marks=marks)


@pytest.mark.parametrize(("function", "code"), list(failures()))
def test_a_disk_that_fails_while_copies_are_written_fails_no_spill(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    """Nor the next one; once it works, copies are made again."""
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.1)
    node = Node(root)
    module = "fcntl" if function == "flock" else "os"
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{function}", failing(code))
        node.spill()
        assert node.copies() == []
        node.check()
        node.storage.delete_spilled_objects(list(node.urls.values()))
    wait_for_the_disk(node)
    poll(lambda: copies_are_made(node), "copies to be made again")
    node.check()
    node.end()


def wait_for_the_disk(node: Node) -> None:
    copies = node.storage.files.copies
    assert copies is not None
    poll(copies._is_healthy, "the disk to be in use again")


def copies_are_made(node: Node) -> bool:
    node.storage.delete_spilled_objects(list(node.urls.values()))
    node.spill()
    return len(node.copies()) == 3


@pytest.mark.parametrize("function", ["pread", "open", "utime", "fstat"])
def test_a_disk_that_fails_while_copies_are_read_fails_no_restore(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """The first time with one line; after that nothing is tried."""
    node = Node(root)
    node.spill()
    call = getattr(os, function)

    def fail(place: Any, *arguments: Any, **options: Any) -> Any:
        is_copy = str(place).startswith("/proc") is False and is_below(root, place, options)
        if is_copy:
            raise OSError(errno.EIO, "Input/output error")
        return call(place, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        node.check()
    node.storage.files.shut_down()
    copies = node.storage.files.copies
    assert copies is not None
    copies._circuit_breaker._state.discard()  # type: ignore[attr-defined]
    wait_for_the_disk(node)
    node.end()


def is_below(root: Path, place: Any, options: Any) -> bool:
    fd = options.get("dir_fd", place)
    if not isinstance(fd, int):
        return str(fd).startswith(str(root))
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(str(root / "copies"))
    except OSError:
        return False


def test_a_full_disk_keeps_what_it_has(s3_bucket: str, root: Path) -> None:
    """A real one, that is full from the beginning, or becomes full."""
    with small_disk(root, size="40m", max_files=100):
        node = Node(root)
        node.spill()
        kept = node.copies()
        assert kept
        node.check()
        fill(root)
        node.check()
        node.storage.delete_spilled_objects(list(node.urls.values()))
        node.spill()
        node.check()
        node.end()


@pytest.mark.parametrize("kind", ["open", "writev", "close"])
def test_a_disk_that_hangs_delays_no_spill(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nor a restore or a deletion; nothing is left once it answers."""
    monkeypatch.setattr(background, "_FIRST_PAUSE", PATIENCE)  # a probe would hang too
    mount = HungMount(str(root), monkeypatch)
    node = Node(root, sizes=SMALL)
    with monkeypatch.context() as patch, mount.hung(kind):
        patch.setattr(copy_file, "PATIENCE", 0.01)
        for _ in range(6):  # more often than threads may hang
            node.spill()
        node.check()
        node.storage.delete_spilled_objects(list(node.urls.values()))
    node.storage.destroy_external_storage()
    assert not node.path.exists()


def test_a_disk_that_is_slower_than_the_upload_delays_no_spill(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has written in time is there, and nothing in part."""
    monkeypatch.setattr(copy_file, "PATIENCE", 0.01)
    writev, written = os.writev, 0

    def slowly(fd: int, buffers: Any) -> int:
        nonlocal written
        time.sleep(0.3)
        written += 1
        return writev(fd, buffers)

    monkeypatch.setattr(os, "writev", slowly)
    node = Node(root)
    node.spill()
    assert written < WRITES
    assert len(node.copies()) < 3
    node.check()
    monkeypatch.undo()
    node.end()


@pytest.mark.parametrize("limit", [SIZES[2] + KIB, 25 * MIB])
def test_nodes_that_share_a_directory_have_bounds_and_copies_of_their_own(
    s3_bucket: str, root: Path, limit: int
) -> None:
    """Each restores what either has spilled; the end of one leaves the other's copies."""
    nodes = [Node(root, node_id, cache_max_bytes=limit) for node_id in ("one", "two")]
    for node in nodes:
        node.spill()
        assert 0 < sum(copy.stat().st_size for copy in node.copies()) <= limit
    for node, other in (nodes, nodes[::-1]):
        node.check()
        other.storage.restore_spilled_objects([b"0"], [node.urls[b"0"]])
    nodes[0].storage.destroy_external_storage()
    assert nodes[1].copies()
    nodes[1].check()
    nodes[1].storage.destroy_external_storage()
    assert os.listdir(root) == []


def test_a_bucket_that_fails_leaves_no_copy(
    s3_bucket: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy alone is no spilled object."""
    node = Node(root)
    monkeypatch.setattr(S3Client, "create", failing(errno.EACCES))
    monkeypatch.setattr(S3Client, "create_multipart", failing(errno.EACCES))
    with pytest.raises(PermissionError):
        node.spill()
    assert node.copies() == []
    assert not list(node.path.glob("*.part"))


def test_a_process_without_threads_needs_no_copies(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket answers, is deleted from, and is left empty by the node's end."""
    monkeypatch.setattr(mount, "_idle", ProcessLocal(list))

    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(mount._Thread, "start", refuse)
        node.check()
        urls = list(node.urls.values())
        node.spill()
        node.storage.delete_spilled_objects(urls)
        node.storage.destroy_external_storage()
        assert keys("bucket") == []
    shutil.rmtree(node.path)  # could not be removed without a thread
