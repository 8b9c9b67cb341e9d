"""Ray's contract for a spill backend, fulfilled for any fsspec URI.

Follow one object: `ExternalStorage.spill_objects` frames it (`fsspill.format.frame`), fuses it
into a file (`fsspill.format.planning`), chooses a healthy URI for that
(`fsspill.placement.placement`) and writes it there, or to the next one
(`fsspill.placement.failover`, `fsspill.transfer.base`). Its URL, digest included, comes back
through `restore_spilled_objects`, which reads the frame, verifies it block by block
(`fsspill.transfer.verified_stream`) and puts it into the object store (`fsspill.object_store`).
Parameters are in `fsspill.settings`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fsspill.child_process import is_interpreter_exiting, run_in_child
from fsspill.errors import (
    ConfigError,
    FsspillError,
    ObjectNotFoundError,
    StoragePermissionError,
    clear_traceback,
)
from fsspill.format.frame import HEADER_LENGTH, Frame, FrameHeader
from fsspill.format.planning import plan_files
from fsspill.format.url import SpillURL
from fsspill.interface import Storage
from fsspill.object_store import FileLike, InMemoryObjectStore, ObjectStore
from fsspill.placement.failover import FailoverWriter
from fsspill.placement.pending_deletions import PendingDeletions
from fsspill.placement.placement import Candidates, Placement
from fsspill.placement.shared_state import SharedState
from fsspill.settings import Settings
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef, SpillLocation, find_file
from fsspill.storage.small_files import check_location, write_heartbeats
from fsspill.transfer.base import FrameRef, Transfer
from fsspill.transfer.local import LocalTransfer
from fsspill.transfer.remote import RemoteTransfer
from fsspill.transfer.spill_file import Encoding, SpillFile, WrittenFile

__all__ = ["MARKED_UNHEALTHY", "ExternalStorage"]

logger = logging.getLogger(__name__)

DELETE_SECONDS = 10.0
"""Seconds that a deletion may take in all: Ray restores with the same processes."""

_CHILD_TIMEOUT = 60.0
"""Seconds to destroy in a child process: the limit of `destroy` itself, and a start of Python."""

MARKED_UNHEALTHY = "Marked unhealthy; writes go to the next URI. A background probe re-enables it."
"""Consequence of a failed write, for messages that state the failure."""


class ExternalStorage(Storage):
    """External storage: spills objects to fsspec URIs, restores and deletes them.

    Parameters
    ----------
    uri : str, list of str, or Settings
        URIs to spill to, such as ``s3://bucket/prefix``; or all parameters as a value.
    node_id, session_name : str, optional
        Components of the path of every file; made up if not given. `destroy_external_storage`
        removes only files of `node_id`.
    object_store : ObjectStore, optional
        Source and destination of objects; a new `InMemoryObjectStore` if not given.
    on_failover : callable, optional
        Called with the error that marked a URI unhealthy; logs it if not given.
    **settings
        The other parameters of `Settings`, by name.

    Attributes
    ----------
    settings : Settings
        The parameters, checked.
    object_store : ObjectStore
        The object store in use.
    node_local : bool
        True if only this machine can read the files.
    uris : list of str
        The configured URIs with the prefix.
    transfer : Transfer
        Moves the bytes.

    Raises
    ------
    ConfigError
        An argument cannot work; the message says which and why. No request was made.

    Notes
    -----
    *Guarantees.* Every URL that `spill_objects` returns can be read in full. When it raises,
    nothing was stored, and what could not be removed is referenced by nothing. A write that a
    URI does not take goes to the next healthy one. No byte is put into the object store before
    its block was checked against a digest that travelled in the URL, unless the files are
    node-local: those the raylet reads itself, by URLs that have no room for one. A frame of up to
    half of ``max_bytes_in_flight`` is buffered and verified as a whole before the object is
    created; if a larger one fails after that, the object store sees the error and must discard
    the object. Only files under the configured URIs are ever read or deleted.

    *Failures.* Transient failures are retried, with jittered backoff, until `stall_timeout`. After
    that all processes of the node mark the URI unhealthy: their calls raise immediately until a
    background probe succeeds.

    *Threads.* One call at a time. Every call blocks until its bytes have moved. Each unhealthy URI
    has a thread that makes the probes.

    *Memory.* Bounded by ``max_bytes_in_flight``, whatever the size of a batch or an object.
    Spilling pins objects in the object store until their file is stored.

    *Requests.* None to construct. A fused file is one request (more above 16 MiB), a restored
    object one per range, a list of deletions one per bucket where the filesystem has bulk deletes.

    Examples
    --------
    >>> from fsspill import ExternalStorage, InMemoryObjectStore
    >>> store = InMemoryObjectStore()
    >>> store.put(b"a", b"some data")
    >>> storage = ExternalStorage("memory://spill", object_store=store)
    >>> urls = storage.spill_objects([b"a"])
    >>> store.delete(b"a")
    >>> storage.restore_spilled_objects([b"a"], urls)
    9
    >>> bytes(store.get(b"a"))
    b'some data'
    >>> storage.delete_spilled_objects(urls)
    """

    def __init__(
        self,
        uri: Settings | str | Sequence[str],
        *,
        node_id: str | None = None,
        session_name: str | None = None,
        object_store: ObjectStore | None = None,
        on_failover: Callable[[FsspillError], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.of(uri, **settings)
        node_id = uuid.uuid4().hex if node_id is None else node_id
        if session_name is None:
            session_name = time.strftime("session_%Y-%m-%d_%H-%M-%S")
        self._locations = _make_locations(self.settings, session_name, node_id)
        self.node_local = self.settings.node_local
        self.uris = self.settings.uris
        # Not "or": an empty store is falsy.
        self.object_store = InMemoryObjectStore() if object_store is None else object_store
        self._on_failover = on_failover or _log_failover
        self._clients = ClientPool(self.settings.storage_options or {}, self.settings.engine)
        self.transfer = _make_transfer(self._locations, self._clients, self.settings)
        self._pending_deletions = PendingDeletions()
        self._state = SharedState(session_name, node_id)
        # Not a method: a probe must not keep the storage from being collected.
        self._check_location = partial(
            check_location, self._clients, stall_timeout=self.settings.stall_timeout
        )
        self._placement = Placement(
            self._locations, self.settings, self._state, self._check_location
        )
        self._arguments = {"uri": self.settings, "node_id": node_id, "session_name": session_name}

    def check(self) -> None:
        """Verify that every URI can be written, read and deleted with these credentials.

        Raises
        ------
        StorageNotFoundError, StoragePermissionError, StorageUnavailableError, ConfigError
            A URI cannot; the message says what to do.

        Notes
        -----
        Three requests per URI, on a file of one byte that is deleted afterwards. Missing local
        directories are created.
        """
        for location in self._locations:
            self._check_location(location)

    def write_heartbeat(self, name: str) -> None:
        """Write a heartbeat under every URI, one request each; see `write_heartbeats`.

        Raises
        ------
        FsspillError
            The first failure, after every URI was tried.
        """
        write_heartbeats(self._clients, self._locations, name, self.settings.stall_timeout)

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Store objects in fused files.

        Parameters
        ----------
        object_refs : sequence
            The objects, which must be in the object store.
        owner_addresses : sequence of bytes, optional
            One per object, stored with it; empty ones if not given.

        Returns
        -------
        list of bytes
            The URLs of the leading objects, in their order: of all of them, or, when a file
            could not be stored, of those before it. The rest was not spilled, and its files
            have been removed as far as the storage allowed.

        Raises
        ------
        ObjectNotFoundError
            An object is not in the object store. Nothing was spilled.
        FsspillError
            Not even the first file could be stored. Nothing was spilled.
        """
        owner_addresses = _owners(object_refs, owner_addresses)
        if not len(object_refs):
            return []
        candidates = self._placement.candidates()
        candidates.require()
        files: list[SpillFile] = []
        try:
            files = self._fuse(object_refs, owner_addresses)
            written = self._write(files, candidates)
        except BaseException as failure:
            clear_traceback(failure)
            raise
        finally:
            for file in files:
                file.release()
        return [url.encode() for file in written for url in file.urls()]

    def _fuse(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes]
    ) -> list[SpillFile]:
        frames = []
        objects = self._get_objects_from_store(object_refs)
        for ref, owner_address, (buffer, metadata, *_) in zip(
            object_refs, owner_addresses, objects, strict=True
        ):
            if buffer is None and not metadata:
                raise ObjectNotFoundError(
                    f"cannot spill object {_name(ref)}: expected it in the object store of this "
                    "node, found nothing. Nothing of its batch was spilled."
                )
            frames.append(Frame.of(owner_address, metadata, buffer))
        plan = plan_files([frame.nbytes for frame in frames], self.settings.file_size)
        digest = None if self.node_local else self.settings.digest
        encoding = Encoding(digest, self.settings.compression)
        return [SpillFile(frames[objects], encoding) for objects in plan]

    def _write(self, files: Sequence[SpillFile], candidates: Candidates) -> list[WrittenFile]:
        writer = FailoverWriter(self.transfer, candidates, self._clients.renew, self._on_failover)
        written = writer.write(files, self.settings.stall_timeout)
        self._pending_deletions.add(writer.orphans)
        if writer.error is not None:
            clear_traceback(writer.error)
            if not written:
                raise writer.error
            logger.warning("spilled %d of %d files: %s", len(written), len(files), writer.error)
        return written

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Restore objects: read them and put them into the object store.

        Parameters
        ----------
        object_refs : sequence
            The objects.
        url_with_offset_list : sequence of bytes or str
            Their URLs, as `spill_objects` returned them, here or on another node.

        Returns
        -------
        int
            Bytes of the restored buffers, without headers and metadata.

        Raises
        ------
        ValueError
            Not as many URLs as refs, or something that is not a URL with offset.
        ConfigError
            A URL that is not under a configured URI. Nothing was read.
        CorruptObjectError
            The file is too short or does not hold the object's frame, or the URL carries no
            digest to verify it with, or an invalid description of its compression.
        MissingPackageError
            The object was compressed, and the package of its codec is not installed here.
        StorageNotFoundError, StoragePermissionError, StorageUnavailableError
            The file does not exist, may not be read, or cannot be read now.

            Objects before the one that failed are in the object store, complete.
        """
        if len(object_refs) != len(url_with_offset_list):
            raise ValueError(
                f"cannot restore {len(object_refs)} objects from {len(url_with_offset_list)} "
                "URLs: expected one URL for each object."
            )
        frames = [self._find_frame(url) for url in url_with_offset_list]
        return sum(
            self._restore(ref, frame) for ref, frame in zip(object_refs, frames, strict=True)
        )

    def _find_frame(self, url: bytes | str) -> FrameRef:
        parsed = SpillURL.parse(_text(url))
        file = self._find_file(parsed.base_url)
        return FrameRef.of(parsed, file, verified=not self.node_local)

    def _restore(self, object_ref: Any, frame: FrameRef) -> int:
        try:
            return self._restore_once(object_ref, frame)
        except StoragePermissionError:
            if not self._clients.renew(frame.file.location):
                raise
        return self._restore_once(object_ref, frame)

    def _restore_once(self, object_ref: Any, frame: FrameRef) -> int:
        with self.transfer.open(frame) as stream:
            header = FrameHeader.unpack(
                stream.read(HEADER_LENGTH), size=frame.nbytes, url=frame.url
            )
            owner_address = stream.read(header.address_length)
            metadata = stream.read(header.metadata_length)
            stream.prefetch()
            self._put_object_to_store(
                metadata, header.buffer_length, stream, object_ref, owner_address
            )
        return header.buffer_length

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Delete files.

        Parameters
        ----------
        urls : sequence of bytes or str
            URLs of objects; the whole file of each is deleted.

        Raises
        ------
        ValueError
            Some URLs are not under a configured URI. All others have been deleted.

        Notes
        -----
        Files that do not exist any more are no error. Files that the storage does not delete
        within 10 seconds are logged and retried by later calls. Nothing is sent to a URI that is
        unhealthy.
        """
        files = dict.fromkeys(self._pending_deletions.next_batch())
        refused: list[ValueError] = []
        for url in urls:
            try:
                files[self._find_file(SpillURL.parse(_text(url)).base_url)] = None
            except ValueError as error:
                refused.append(error)
        self._delete(list(files))
        if refused:
            raise refused[0]

    def retry_pending_deletions(self) -> bool:
        """Retry the deletions that failed in earlier calls; return True if there were any."""
        if not self._pending_deletions:
            return False
        self.delete_spilled_objects([])
        return True

    def _delete(self, files: Sequence[FileRef]) -> None:
        unhealthy = {place: self._placement.failure(place) for place in self._locations}
        failures = {file: error for file in files if (error := unhealthy[file.location])}
        wanted = [file for file in files if file not in failures]
        failures |= self.transfer.delete(wanted, seconds=DELETE_SECONDS) if wanted else {}
        self._pending_deletions.discard(files)
        for file in files:
            if file not in failures:
                self._placement.record_delete(file.location, file.nbytes)
        self._pending_deletions.add(failures)

    def list_spilled_files(self) -> list[str]:
        """Return the base URLs of all files of this node, by listing its directories.

        Raises
        ------
        StoragePermissionError, StorageUnavailableError
            The storage does not list them.
        """
        return [file.url for file in self.transfer.list_files()]

    def destroy_external_storage(self) -> None:
        """Delete every file of this node, and nothing else.

        Notes
        -----
        Never raises: files that could not be deleted are logged. Works in `atexit` handlers too,
        where Python starts no more threads: there a child process does the work. Takes at most a
        minute.
        """
        self._placement.shut_down()
        self._state.discard()
        try:
            if not self.settings.local and is_interpreter_exiting():
                run_in_child(partial(_destroy, self._arguments), timeout=_CHILD_TIMEOUT)
            else:
                self.transfer.destroy()
        except Exception as error:
            logger.warning("could not remove all spilled files of this node: %s", error)

    def _get_objects_from_store(self, object_refs: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        return self.object_store.get_if_local(object_refs)

    def _put_object_to_store(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
    ) -> None:
        self.object_store.put_file_like_object(
            metadata, data_size, file_like, object_ref, owner_address
        )

    def _find_file(self, base_url: str) -> FileRef:
        file = find_file(self._locations, base_url)
        if file is not None:
            return file
        roots = ", ".join(location.root for location in self._locations)
        raise ConfigError(
            f"refused {base_url}: expected a spilled file under {roots}. fsspill reads and deletes "
            "nothing else."
        )


def _text(url: bytes | str) -> str:
    return url.decode() if isinstance(url, bytes) else url


def _make_locations(settings: Settings, session_name: str, node_id: str) -> list[SpillLocation]:
    names = {"prefix": settings.prefix, "session_name": session_name, "node_id": node_id}
    return [SpillLocation(uri, shared=settings.shared, **names) for uri in settings.uri]


def _make_transfer(
    locations: Sequence[SpillLocation], clients: ClientPool, settings: Settings
) -> Transfer:
    if settings.local:
        return LocalTransfer(locations, settings)
    return RemoteTransfer(locations, clients, settings)


def _destroy(arguments: Mapping[str, Any]) -> None:
    ExternalStorage(**arguments).destroy_external_storage()


def _log_failover(failure: FsspillError) -> None:
    logger.warning("%s %s", failure, MARKED_UNHEALTHY)


def _owners(object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None) -> Sequence[bytes]:
    if owner_addresses is None:
        return [b""] * len(object_refs)
    if len(owner_addresses) != len(object_refs):
        raise ValueError(
            f"cannot spill {len(object_refs)} objects with {len(owner_addresses)} owner "
            "addresses: expected one for each object, or None."
        )
    return owner_addresses


def _name(object_ref: Any) -> str:
    return object_ref.hex() if hasattr(object_ref, "hex") else repr(object_ref)
