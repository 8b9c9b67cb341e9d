"""Ray's contract for a spill backend, fulfilled for any fsspec URI.

Follow one object: `ExternalStorage.spill_objects` makes it a frame of a fused file
(`fsspill.transfer.fuse`), which `fsspill.placement.file_store` writes to a healthy URI, or to the
next one (`fsspill.placement.failover`, `fsspill.transfer.base`). Its URL, digest included, comes
back through `restore_spilled_objects`, which reads the frame, verifies it block by block
(`fsspill.transfer.verified_stream`) and puts it into the object store (`fsspill.object_store`).
Parameters are in `fsspill.settings`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fsspill.error_chain import redact_errors
from fsspill.errors import (
    FsspillError,
    InvalidArgumentError,
    StoragePermissionError,
    clear_traceback,
)
from fsspill.format.frame import HEADER_LENGTH, FrameHeader
from fsspill.interface import Storage
from fsspill.log import get_logger
from fsspill.metrics import Stats
from fsspill.object_store import InMemoryObjectStore, ObjectStore
from fsspill.placement.file_store import FileStore
from fsspill.process_local import ProcessLocal
from fsspill.settings import URI, Settings
from fsspill.transfer.base import FrameRef
from fsspill.transfer.fuse import fuse_objects, match_owners
from fsspill.transfer.spill_file import SpillFile

__all__ = ["ExternalStorage"]

logger = get_logger(__name__)


class ExternalStorage(Storage):
    """External storage: spills objects to fsspec URIs, restores and deletes them.

    Parameters
    ----------
    uri : str, path, list of those, or Settings
        URIs to spill to, such as ``s3://bucket/prefix``, or local directories; or all parameters as
        a value.
    node_id, session_name : str, optional
        Components of the path of every file; made up if not given. `destroy_external_storage`
        removes only files of `node_id`.
    object_store : ObjectStore, optional
        Source and destination of objects; a new `InMemoryObjectStore` if not given.
    on_failover : callable, optional
        Called with the error that marked a URI unhealthy; logs it if not given.
    on_refusal : callable, optional
        Called with the error the first time that no URI takes an object; logs it if not given.
    on_copy_failure : callable, optional
        Called with the error that took the disk of local copies out of use; logs it if not given.
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
    files : FileStore
        The node's files on the configured URIs, by connections of this process.

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
    the object. So it is with later blocks of a frame that is read from a local copy: they are
    verified in the object's own memory, before it is complete. Only files under the configured URIs
    are ever read or deleted.

    *Failures.* Transient failures are retried, with jittered backoff, until `stall_timeout`. After
    that all processes of the node mark the URI unhealthy: their calls raise immediately until a
    background probe succeeds. A file that the URI refuses while it takes others goes to the next
    URI. One that all refuse is split, so that only objects that are refused by themselves stay;
    those are not tried again for 5 to 60 seconds.

    *Local copies* (`cache_dir`). Kept of what is stored, never instead of it: a copy that cannot be
    written in time is dropped, one that is missing or wrong is read from the storage. A spill waits
    for them for 10 ms or a thirtieth of its time, and a restore, once, 2 seconds for a disk that
    does not answer.

    *Threads.* One call at a time. Every call blocks until its bytes have moved. Each unhealthy URI
    has a thread that makes the probes, and deletions that failed have one that retries them. Local
    directories are used on threads of their own, since they may hang.

    *Processes.* A forked child can use a storage that it inherited, also while the parent does, and
    any other process one that was pickled: each opens connections of its own. Only the process that
    made it destroys it.

    *As a context manager* it is destroyed at the end of the block: its files are deleted.

    *Memory.* Bounded by ``max_bytes_in_flight``, whatever the size of a batch or an object.
    Spilling pins objects in the object store until their file is stored.

    *Requests.* None to construct. A fused file is one request (more above 16 MiB), a restored
    object one per range, a list of deletions one per bucket where the filesystem has bulk deletes.
    """

    def __init__(
        self,
        uri: Settings | URI | Sequence[URI],
        *,
        node_id: str | None = None,
        session_name: str | None = None,
        object_store: ObjectStore | None = None,
        on_failover: Callable[[FsspillError], None] | None = None,
        on_refusal: Callable[[FsspillError], None] | None = None,
        on_copy_failure: Callable[[FsspillError], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.of(uri, **settings)
        node_id = uuid.uuid4().hex if node_id is None else node_id
        if session_name is None:
            session_name = time.strftime("session_%Y-%m-%d_%H-%M-%S")
        self.node_local = self.settings.node_local
        self.uris = self.settings.uris
        # Not "or": an empty store is falsy.
        self.object_store = InMemoryObjectStore() if object_store is None else object_store
        callbacks = on_failover, on_refusal, on_copy_failure
        self._files = ProcessLocal(
            partial(FileStore, self.settings, session_name, node_id, *callbacks)
        )
        self._files.get()  # checks the arguments
        self._owner = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}{repr(self.settings).removeprefix('Settings')}"

    def __enter__(self) -> ExternalStorage:
        return self

    def __exit__(self, *exception: object) -> None:
        self.destroy_external_storage()

    @property
    def files(self) -> FileStore:
        """The node's files on the configured URIs, by connections of this process."""
        return self._files.get()

    @redact_errors
    def check(self) -> None:
        """Verify that every URI can be written, read, listed and deleted with these credentials.

        Raises
        ------
        StorageNotFoundError, StoragePermissionError, StorageUnavailableError, ConfigError
            A URI cannot; the message says what to do.

        Notes
        -----
        Four requests per URI, on a file of two bytes that is deleted afterwards. Missing local
        directories are created, but not that of local copies. There what earlier sessions have
        left is removed.
        """
        self.files.check()
        self.files.check_copies()

    @redact_errors
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
            could not be stored, of those before it, and of those before an object that was
            refused a moment ago. The rest was not spilled, and its files have been removed as far
            as the storage allowed.

        Raises
        ------
        ObjectNotFoundError
            An object is not in the object store. Nothing was spilled.
        StorageRefusedError
            No URI takes the first object, though they take others. Nothing was spilled.
        FsspillError
            Not even the first file could be stored. Nothing was spilled.
        """
        owners = match_owners(object_refs, owner_addresses)
        if not len(object_refs):
            return []
        candidates = self.files.candidates()
        object_refs = self.files.refusals.before(object_refs)
        owners = owners[: len(object_refs)]
        files: list[SpillFile] = []
        try:
            # Not bound to a local: the objects must not stay pinned by this frame.
            files = fuse_objects(
                object_refs, owners, self.object_store.get_if_local(object_refs), self.settings
            )
            written = self.files.write(files, candidates)
        except BaseException as failure:
            clear_traceback(failure)
            raise
        finally:
            for file in files:
                file.release()
        return [url.encode() for file in written for url in file.urls()]

    @redact_errors
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
        InvalidArgumentError
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
            raise InvalidArgumentError(
                f"cannot restore {len(object_refs)} objects from {len(url_with_offset_list)} "
                "URLs: expected one URL for each object."
            )
        frames = [self.files.find_frame(url) for url in url_with_offset_list]
        return sum(
            self._restore(ref, frame) for ref, frame in zip(object_refs, frames, strict=True)
        )

    def _restore(self, object_ref: Any, frame: FrameRef) -> int:
        try:
            return self._restore_once(object_ref, frame)
        except StoragePermissionError:
            if not self.files.renew(frame.file):
                raise
        return self._restore_once(object_ref, frame)

    def _restore_once(self, object_ref: Any, frame: FrameRef) -> int:
        with self.files.open(frame) as stream:
            header = FrameHeader.unpack(
                stream.read(HEADER_LENGTH), size=frame.nbytes, url=frame.url
            )
            owner_address = stream.read(header.address_length)
            metadata = stream.read(header.metadata_length)
            stream.prefetch()
            self.object_store.put_file_like_object(
                metadata, header.buffer_length, stream, object_ref, owner_address
            )
        return header.buffer_length

    @redact_errors
    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Delete files.

        Parameters
        ----------
        urls : sequence of bytes or str
            URLs of objects; the whole file of each is deleted.

        Raises
        ------
        InvalidArgumentError
            Some URLs are not under a configured URI. All others have been deleted.

        Notes
        -----
        Files that do not exist any more are no error. Files that the storage does not delete
        within 10 seconds are logged and retried in the background, every few seconds. Nothing is
        sent to a URI that is unhealthy.
        """
        files, refused = self.files.find_all(urls)
        self.files.delete(files)
        if refused:
            raise refused[0]

    @redact_errors
    def list_spilled_files(self) -> list[str]:
        """Return the base URLs of all files of this node, by listing its directories.

        Raises
        ------
        StoragePermissionError, StorageUnavailableError
            The storage does not list them.
        """
        return [file.url for file in self.files.transfer.list_files()]

    def stats(self) -> Stats:
        """Return the metrics of this storage in this process: bytes, requests, failures.

        Returns
        -------
        Stats
            Samples as of a Prometheus endpoint, with ``total`` to sum them. Names, units and labels
            are in `fsspill.metrics.METRICS`. No request is made.
        """
        return self.files.stats()

    def destroy_external_storage(self) -> None:
        """Delete every file of this node, and nothing else.

        Notes
        -----
        Never raises: files that could not be deleted are logged. Works in `atexit` handlers, where
        Python starts no threads, through a child process. Takes at most a minute. Does nothing in a
        process that inherited the storage: the one that made it may need the files.
        """
        if os.getpid() != self._owner:
            logger.warning(
                "not destroyed: the storage belongs to process %d, which made it", self._owner
            )
            return
        self.files.destroy()
