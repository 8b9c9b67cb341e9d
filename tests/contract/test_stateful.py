"""Any sequence of spills, restores, deletions, faults and crashes, against a model of dicts."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import fsspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fsspill import ExternalStorage, FsspillError, InMemoryObjectStore
from fsspill.placement import background, refusals
from fsspill.storage import retry
from fsspill.testing.contract import decode_frame, split_url
from fsspill.testing.filesystems import FaultyFileSystem, register
from tests.running import PATIENCE, poll

OPTIONS = {"target_protocol": "memory"}
LIMIT = 10**9
"""More bytes than any sequence stores: they are counted, and always fit."""


class Object(NamedTuple):
    """An object before it was spilled."""

    owner_address: bytes
    metadata: bytes
    data: bytes


class Fault(NamedTuple):
    """A fault of the next calls of an operation."""

    kind: str
    operation: str
    arguments: dict[str, Any]


REFUSED, FULL = PermissionError("refused"), OSError(28, "no space left on device")

# Transient failures are retried within the call, however many; refusals are not.
passing_writes = st.builds(
    Fault,
    st.just("fail"),
    st.sampled_from(["pipe_file", "rm_file"]),
    st.fixed_dictionaries({"times": st.integers(1, 4), "after": st.booleans()}),
)
refused_writes = st.builds(
    Fault,
    st.just("fail"),
    st.just("pipe_file"),
    st.fixed_dictionaries(
        {
            "error": st.sampled_from([FULL, REFUSED]),
            "times": st.integers(1, 4),
            "rate": st.sampled_from([0.5, 1.0]),
            "after": st.booleans(),
        }
    ),
)
refused_deletions = st.builds(
    Fault,
    st.just("fail"),
    st.just("rm_file"),
    st.fixed_dictionaries({"error": st.just(REFUSED), "times": st.integers(1, 4)}),
)
# Wrong bytes are read three times before the file counts as corrupt.
passing_reads = st.builds(
    Fault,
    st.sampled_from(["fail", "truncate", "flip", "swap"]),
    st.just("cat_ranges"),
    st.fixed_dictionaries({"times": st.integers(1, 2)}),
)
wrong_reads = st.builds(
    Fault,
    st.sampled_from(["flip", "swap"]),
    st.just("cat_ranges"),
    st.fixed_dictionaries({"times": st.integers(3, 9)}),
)
OUTAGE = Fault("fail", "*", {"error": REFUSED})

batches = st.lists(st.integers(0, 3000), min_size=1, max_size=6)
picks = st.integers(0, 2**16)


class Node(RuleBasedStateMachine):
    """A node that spills to one URI; `here` and `spilled` are the model of where each object is.

    Draws never depend on outcomes, so that a run can be repeated though threads differ in speed.
    Between the rules the storage is healthy and in use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = f"stateful-{uuid.uuid4().hex}"
        self.faulty: FaultyFileSystem = fsspec.filesystem("faulty", **OPTIONS)
        self.store = InMemoryObjectStore()
        self.made = 0
        self.here: dict[bytes, Object] = {}
        self.spilled: dict[bytes, Object] = {}
        self.urls: dict[bytes, bytes] = {}
        self.undeleted = False
        self.orphans = False
        self.crashed = False
        self.start()

    def start(self) -> None:
        """Start an IO worker."""
        self.storage = ExternalStorage(
            f"faulty://{self.root}",
            storage_options=OPTIONS,
            file_size=4096,
            max_bytes=LIMIT,
            node_id="node",
            session_name=self.root,
            object_store=self.store,
        )

    @contextmanager
    def injected(self, *faults: Fault | None) -> Iterator[None]:
        """Inject faults until the block ends."""
        for fault in filter(None, faults):
            getattr(self.faulty, fault.kind)(fault.operation, **fault.arguments)
        yield
        self.faulty.clear()

    def make_objects(self, sizes: Sequence[int]) -> None:
        """Put objects into the object store."""
        for size in sizes:
            self.made += 1
            ref = b"ref-%d" % self.made
            data = random.Random(self.made).randbytes(size)
            made = Object(b"owner" * (self.made % 3), b"metadata-%d" % self.made, data)
            self.here[ref] = made
            self.store.put(ref, made.data, metadata=made.metadata)

    @rule(sizes=batches, fault=st.none() | passing_writes)
    def spill(self, sizes: Sequence[int], fault: Fault | None) -> None:
        """Spill new objects, and those that could not be spilled before."""
        self.make_objects(sizes)
        wanted = len(self.here)
        assert self.spill_leading(fault) == wanted

    @rule(sizes=batches, write=refused_writes, deletion=st.none() | refused_deletions)
    def spill_in_part(self, sizes: Sequence[int], write: Fault, deletion: Fault | None) -> None:
        """Spill the objects that the storage takes: leading ones, and none of the others."""
        self.make_objects(sizes)
        self.spill_leading(write, deletion)
        self.recover()

    def spill_leading(self, *faults: Fault | None) -> int:
        refs = list(self.here)
        urls: list[bytes] = []
        with self.injected(*faults):
            try:
                owners = [self.here[ref].owner_address for ref in refs]
                urls = self.storage.spill_objects(refs, owners)
            except FsspillError:
                pass  # nothing was spilled
        for ref, url in zip(refs, urls, strict=False):
            self.store.delete(ref)
            self.spilled[ref] = self.here.pop(ref)
            self.urls[ref] = url
        return len(urls)

    @rule(pick=picks, count=st.integers(1, 3), fault=st.none() | passing_reads)
    def restore(self, pick: int, count: int, fault: Fault | None) -> None:
        """Restore objects."""
        refs = self.pick(pick, count)
        assert self.restore_leading(refs, fault) == len(refs)

    @rule(pick=picks, count=st.integers(1, 3), fault=wrong_reads)
    def restore_wrong(self, pick: int, count: int, fault: Fault) -> None:
        """Restore objects that are read wrong: leading ones are right, others not restored."""
        self.restore_leading(self.pick(pick, count), fault)

    def restore_leading(self, refs: Sequence[bytes], *faults: Fault | None) -> int:
        with self.injected(*faults):
            try:
                self.storage.restore_spilled_objects(refs, [self.urls[ref] for ref in refs])
            except FsspillError:
                assert not set(refs) <= set(self.store)
        restored = [ref for ref in refs if ref in self.store]
        assert restored == refs[: len(restored)]
        for ref in restored:
            owner_address, metadata, data = self.spilled[ref]
            assert self.store.get(ref) == data
            assert self.store.metadata(ref) == metadata
            assert self.store.owner_address(ref) == owner_address
            self.store.delete(ref)
        return len(restored)

    def pick(self, pick: int, count: int) -> list[bytes]:
        """Return some of the objects that are spilled, if there are any."""
        refs = list(self.spilled)
        return [refs[(pick + index) % len(refs)] for index in range(min(count, len(refs)))]

    @rule(pick=picks, times=st.integers(1, 2), fault=st.none() | refused_deletions)
    def delete(self, pick: int, times: int, fault: Fault | None) -> None:
        """Delete the file of an object, once or twice."""
        for ref in self.pick(pick, 1):
            url = self.urls[ref]
            for other in [key for key in self.urls if name(self.urls[key]) == name(url)]:
                del self.urls[other], self.spilled[other]
            with self.injected(fault):
                for _ in range(times):
                    self.storage.delete_spilled_objects([url])
            self.undeleted = True
            if fault is not OUTAGE:
                self.wait_for_deletions()

    def wait_for_deletions(self) -> None:
        """Wait until pending deletions, which need no call, are done."""
        join_threads("fsspill-delete")
        poll(lambda: not self.storage.files.pending_deletions, "the files to be deleted")
        self.undeleted = False

    @rule()
    def crash(self) -> None:
        """Replace the IO worker, with all that it had in memory, by a new one."""
        self.orphans |= self.undeleted
        self.undeleted = False
        self.crashed = True
        self.start()

    @rule(sizes=batches, pick=picks, crashes=st.booleans())
    def outage(self, sizes: Sequence[int], pick: int, crashes: bool) -> None:
        """Call everything while the storage refuses everything: nothing changes; it recovers."""
        self.make_objects(sizes)
        refs = self.pick(pick, 1)
        for _ in range(2):
            assert self.spill_leading(OUTAGE) == 0
            assert self.restore_leading(refs, OUTAGE) == 0
        self.delete(pick, 1, OUTAGE)
        if crashes:
            self.crash()
        self.recover()

    def recover(self) -> None:
        """Wait until the storage is healthy again, and has what it should have."""
        poll(self.takes_an_object, "the storage to be used again")
        self.wait_for_deletions()

    def takes_an_object(self) -> bool:
        join_threads("fsspill-probe")
        self.store.put(b"one", b"more")
        try:
            self.storage.delete_spilled_objects(self.storage.spill_objects([b"one"]))
        except FsspillError:
            return False
        finally:
            self.store.delete(b"one")
        return True

    @invariant()
    def every_url_is_that_of_its_object(self) -> None:
        """Compare the bytes at every URL, bit for bit, with its object."""
        files = self.files()
        for ref, url in self.urls.items():
            _, offset, size = split_url(url)
            frame = files[name(url)][offset : offset + size]
            assert Object(*decode_frame(frame)) == self.spilled[ref]

    @invariant()
    def every_file_is_that_of_a_url(self) -> None:
        """No file is left behind except those that could not be removed."""
        if not self.undeleted and not self.orphans:
            assert set(self.files()) == {name(url) for url in self.urls.values()}

    @invariant()
    def usage_is_that_of_the_files(self) -> None:
        """Count for max_bytes the bytes that are there, or may be."""
        [location] = self.storage.files.locations
        used = self.storage.files.placement.usage.get(location)
        stored = sum(map(len, self.files().values()))
        # A worker that crashed may have tried to write files, and then to delete them.
        assert used == stored or (used > stored and (self.undeleted or self.crashed))

    @invariant()
    def the_object_store_has_what_was_not_spilled(self) -> None:
        """No object is partial, unasked for, or missing."""
        found = {ref: bytes(self.store.get(ref)) for ref in self.store}
        assert found == {ref: made.data for ref, made in self.here.items()}

    def files(self) -> dict[str, bytes]:
        """Return every file by its name, except those of probes.

        Probes come and go; one whose deletion was refused stays until `fsspill clean`.
        """
        found = list(fsspec.filesystem("memory").store.items())
        return {
            path.rpartition("/")[2]: file.getvalue()
            for path, file in found
            if path.startswith(f"/{self.root}/") and "/fsspill-check-" not in path
        }

    def teardown(self) -> None:
        """Delete every object, then destroy the storage: no file is left."""
        self.recover()
        self.storage.delete_spilled_objects(list(self.urls.values()))
        assert self.orphans or not self.files()
        self.storage.destroy_external_storage()
        assert not self.files()


def join_threads(name: str) -> None:
    """Wait for background threads: they end when there is nothing left for them to do."""
    for thread in threading.enumerate():
        if thread.name == name and thread.is_alive():  # not one that another thread is starting
            thread.join(PATIENCE)


def name(url: bytes) -> str:
    return split_url(url)[0].rpartition("/")[2]


@pytest.fixture(autouse=True)
def _protocols() -> None:
    register()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (background, refusals, retry):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.002)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.01)
    yield
    FaultyFileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    "examples", [25, pytest.param(400, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
def test_any_sequence_loses_and_leaves_nothing(examples: int) -> None:
    """Every spilled object is restored bit for bit, and no file is left behind."""
    run_state_machine_as_test(
        Node,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
