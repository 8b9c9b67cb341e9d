"""The contract that Ray has with a spill backend, fulfilled for any fsspec URI.

Follow one object: `ExternalStorage.spill_objects` frames it (`fsspill.format.frame`), puts it
into a fused file (`fsspill.format.planning`), finds a healthy URI for that
(`fsspill.placement.placement`) and has it moved there, or to the next
(`fsspill.placement.failover`, `fsspill.transfer.base`). Its URL, digest included, comes back
through `restore_spilled_objects`, which reads the frame, checks it block by block
(`fsspill.transfer.verified_stream`) and hands it to the object store (`fsspill.object_store`).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from fsspill.child_process import is_interpreter_exiting, run_in_child
from fsspill.errors import (
    ConfigError,
    FsspillError,
    ObjectNotFoundError,
    StoragePermissionError,
    clear_traceback,
)
from fsspill.format.compression import Compression, check_codec
from fsspill.format.digest import ALGORITHMS, Digests
from fsspill.format.frame import HEADER_LENGTH, Frame, FrameHeader
from fsspill.format.planning import plan_files
from fsspill.format.url import ParsedURL, create_url_with_offset, parse_url_with_offset
from fsspill.interface import Storage
from fsspill.object_store import FileLike, InMemoryObjectStore, ObjectStore
from fsspill.placement.failover import FailoverWriter
from fsspill.placement.placement import Candidates, Placement, Policy
from fsspill.placement.shared_state import SharedState
from fsspill.storage.connection import check_uri
from fsspill.storage.layout import SpillLocation, find_location
from fsspill.storage.range_reader import check_engine
from fsspill.transfer.base import FrameRef, Limits, SpillFile, Transfer
from fsspill.transfer.local import LocalTransfer
from fsspill.transfer.remote import RemoteTransfer

__all__ = ["MARKED_UNHEALTHY", "ExternalStorage"]

logger = logging.getLogger(__name__)

DELETE_SECONDS = 10.0
"""Seconds that a deletion may take in all: Ray restores with the same processes."""

_KEPT_PER_CALL = 1000
_MAX_KEPT = 100_000
"""Files that could not be deleted: how many are tried again with a call, and kept in memory."""

_CHILD_TIMEOUT = 60.0
"""Seconds to destroy in a child process: the limit of `destroy` itself, and a start of Python."""

MARKED_UNHEALTHY = "Marked unhealthy; writes go to the next URI. A background probe re-enables it."
"""Consequence of a failed write, for messages that state the failure."""


class ExternalStorage(Storage):
    """Spills objects to fsspec URIs, restores them, and deletes them.

    Parameters
    ----------
    uri : str or list of str
        Where to spill to, such as ``s3://bucket/prefix``. Buckets must exist; directories are
        made. With a list, files go to one URI after another.
    storage_options : mapping, optional
        Options for the filesystem in fsspec's names; they win over the tuned ones. Keep secrets
        out of them: under Ray they show in process lists. Filesystems find theirs in the
        environment.
    prefix : str, optional
        Path below the URI under which everything lies.
    shared : bool, optional
        For ``file://`` only: the directory is mounted on every node (NFS, Lustre), so that any
        node can restore what another spilled, also after that one died.
    file_size, range_size, max_requests_in_flight, max_bytes_in_flight : int, optional
        See `fsspill.transfer.base.Limits`.
    stall_timeout : float, optional
        Seconds that a call waits for a URI that makes no progress, its retries included.
    digest : str, optional
        ``xxh3_128`` finds every accident; ``sha256`` also keeps who can write to the storage from
        planting an object. See `fsspill.format.digest`.
    compression : str, optional
        ``lz4`` or ``zstd``: objects that shrink are compressed, each by itself. Not for files of a
        node's own disk. Objects are restored whatever this is. See
        `fsspill.format.compression` for speed.
    engine : str, optional
        Who reads files back from S3, GCS and Azure: ``obstore``, faster, with the endpoint and the
        credentials of the filesystem; ``fsspec``, the filesystem itself; ``auto``, obstore where it
        is installed. See `fsspill.storage.range_reader`.
    policy, min_free_bytes, max_bytes : optional
        Which URI takes a file, and how much each may get; see `fsspill.placement.placement.Policy`.
    node_id, session_name : str, optional
        Parts of every file's path, made up where they are not given. `destroy_external_storage`
        removes only what belongs to `node_id`.
    object_store : ObjectStore, optional
        Where objects come from and go to; a new `InMemoryObjectStore` if not given.
    on_failover : callable, optional
        Called with the error that marked a URI unhealthy; logs it if not given.

    Attributes
    ----------
    object_store : ObjectStore
        The one in use.
    node_local : bool
        Whether the files can be read on this machine only.
    uris : list of str
        The configured URIs with the prefix.
    transfer : Transfer
        What moves the bytes.

    Raises
    ------
    ConfigError
        An argument cannot work; it says which and why. No request was made.

    Notes
    -----
    *Guarantees.* Every URL that `spill_objects` returns can be read in full. When it raises,
    nothing was stored, and what could not be removed is referenced by nothing. A write that a
    URI does not take goes to the next healthy one. No byte is put into the object store before
    the block that it belongs to was checked against a digest that travelled in the URL, unless
    the files are node-local: those the raylet reads itself, by URLs that have no room for one. A
    frame of up to half of ``max_bytes_in_flight`` is there and right as a whole before the object
    is made; if a larger one fails after that, the object store sees the error and must drop it.
    Only files under the configured URIs are ever read or deleted.

    *Failures.* What may pass is tried again, with jittered backoff, until `stall_timeout`. After
    that a URI is given up by all processes of the node, whose calls then raise at once, until a
    probe in the background succeeds.

    *Threads.* One call at a time. Every call blocks until its bytes have moved. A thread per URI
    that was given up makes the probes.

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
        uri: str | Sequence[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        prefix: str = "",
        shared: bool = False,
        file_size: int = Limits.file_size,
        range_size: int | None = Limits.range_size,
        max_requests_in_flight: int = Limits.max_requests_in_flight,
        max_bytes_in_flight: int = Limits.max_bytes_in_flight,
        stall_timeout: float = Limits.stall_timeout,
        digest: str = "xxh3_128",
        compression: str | None = None,
        engine: str = "auto",
        policy: str = Policy.policy,
        min_free_bytes: int = Policy.min_free_bytes,
        max_bytes: int | None = Policy.max_bytes,
        node_id: str | None = None,
        session_name: str | None = None,
        object_store: ObjectStore | None = None,
        on_failover: Callable[[FsspillError], None] | None = None,
    ) -> None:
        limits = Limits(
            file_size, range_size, max_requests_in_flight, max_bytes_in_flight, stall_timeout
        )
        node_id = uuid.uuid4().hex if node_id is None else node_id
        if session_name is None:
            session_name = time.strftime("session_%Y-%m-%d_%H-%M-%S")
        names = {"prefix": prefix, "session_name": session_name, "node_id": node_id}
        _check_types(storage_options, shared, names)
        _check_digest(digest)
        self._locations = [SpillLocation(u, shared=shared, **names) for u in _list_of_uris(uri)]
        _check_same_kind(self._locations, shared, min_free_bytes)
        _check_compression(compression, self._locations[0])
        for location in self._locations:
            check_engine(engine, location.uri)
        self.node_local = self._locations[0].node_local
        self.uris = [location.uri for location in self._locations]
        # Not "or": an empty store is falsy.
        self.object_store = InMemoryObjectStore() if object_store is None else object_store
        self._on_failover = on_failover or _log_failover
        self._limits = limits
        self._algorithm = None if self.node_local else digest
        self._codec = compression
        self._undeleted: dict[str, FsspillError] = {}
        self.transfer = _make_transfer(self._locations, storage_options or {}, limits, engine)
        self._state = SharedState(session_name, node_id)
        spread = Policy(policy, min_free_bytes, max_bytes)
        self._placement = Placement(self._locations, spread, self._state, self.transfer.check)
        self._arguments = {
            "uri": self.uris,
            "storage_options": storage_options,
            "shared": shared,
            "node_id": node_id,
            "session_name": session_name,
        }

    def check(self) -> None:
        """Prove that every URI can be written, read and deleted with these credentials.

        Raises
        ------
        StorageNotFoundError, StoragePermissionError, StorageUnavailableError, ConfigError
            It cannot; the message says what to do.

        Notes
        -----
        Three requests per URI, on a file of one byte that is gone afterwards. Local directories
        are made if they are missing.
        """
        for location in self._locations:
            self.transfer.check(location)

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
            could not be stored, of those before it. The rest was not spilled, and what was
            stored of it has been removed as far as the storage let.

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
            stored = self._store(files, candidates)
        except BaseException as failure:
            clear_traceback(failure)
            raise
        finally:
            for file in files:
                file.release()
        return [url for file in stored for url in _urls(file)]

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
        plan = plan_files([frame.nbytes for frame in frames], self._limits.file_size)
        return [SpillFile(frames[objects], self._algorithm, self._codec) for objects in plan]

    def _store(self, files: Sequence[SpillFile], candidates: Candidates) -> list[SpillFile]:
        batch = FailoverWriter(files, self.transfer, candidates, self._on_failover)
        stored = batch.store(self._limits.stall_timeout)
        self._keep_undeleted(batch.leftover)
        if batch.error is not None:
            clear_traceback(batch.error)
            if not stored:
                raise batch.error
            logger.warning("spilled %d of %d files: %s", len(stored), len(files), batch.error)
        return stored

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Read objects back and put them into the object store.

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
            The file is too short, what it holds is not the object's frame, or the URL carries no
            digest to check it against, or something that is not how a frame was compressed.
        MissingPackageError
            The object was compressed, and the package for that is not installed here.
        StorageNotFoundError, StoragePermissionError, StorageUnavailableError
            The file is gone, may not be read, or cannot be read now.

            Objects before the one that failed are in the object store, complete.
        """
        if len(object_refs) != len(url_with_offset_list):
            raise ValueError(
                f"cannot restore {len(object_refs)} objects from {len(url_with_offset_list)} "
                "URLs: expected one URL for each object."
            )
        sources = [self._source(url) for url in url_with_offset_list]
        return sum(
            self._restore(ref, source) for ref, source in zip(object_refs, sources, strict=True)
        )

    def _source(self, url: bytes | str) -> FrameRef:
        text = _text(url)
        location = self._parse(text)
        if self.node_local:
            return FrameRef(location, None)
        digests = Digests.of_url(text)
        blocks = len(digests.values)
        return FrameRef(
            location, digests, Compression.of_url(text, size=location.size, blocks=blocks)
        )

    def _restore(self, object_ref: Any, source: FrameRef) -> int:
        try:
            return self._restore_once(object_ref, source)
        except StoragePermissionError:
            if not self.transfer.renew(source.location.base_url):
                raise
        return self._restore_once(object_ref, source)

    def _restore_once(self, object_ref: Any, source: FrameRef) -> int:
        with self.transfer.open_frame(source) as stream:
            header = FrameHeader.unpack(
                stream.read(HEADER_LENGTH), size=source.length, url=source.url
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
        What is already gone is fine. What the storage does not let go within 10 seconds is logged,
        and tried again with later calls. At a URI that is given up nothing is tried.
        """
        files = dict.fromkeys(islice(self._undeleted, _KEPT_PER_CALL))
        refused: list[ValueError] = []
        for url in urls:
            try:
                files[self._parse(_text(url)).base_url] = None
            except ValueError as error:
                refused.append(error)
        self._delete(list(files))
        if refused:
            raise refused[0]

    def retry_pending_deletions(self) -> bool:
        """Retry the deletions that failed in earlier calls; return True if there were any."""
        if not self._undeleted:
            return False
        self.delete_spilled_objects([])
        return True

    def _delete(self, files: Sequence[str]) -> None:
        given_up = {place: self._placement.failure(place) for place in self._locations}
        failures = {url: error for url in files if (error := given_up[self._location(url)])}
        wanted = [url for url in files if url not in failures]
        failures |= self.transfer.remove(wanted, seconds=DELETE_SECONDS) if wanted else {}
        for url in files:
            self._undeleted.pop(url, None)
            if url not in failures:
                self._placement.deleted(self._location(url), url)
        self._keep_undeleted(failures)

    def _keep_undeleted(self, failures: Mapping[str, FsspillError]) -> None:
        """Remember files to delete with later calls; what is forgotten, clean-up finds."""
        for reason in dict.fromkeys(map(str, failures.values())):
            logger.warning("%s", reason)
        self._undeleted |= failures
        while len(self._undeleted) > _MAX_KEPT:
            del self._undeleted[next(iter(self._undeleted))]

    def list_spilled_files(self) -> list[str]:
        """Return the base URLs of all files of this node, by listing its directories.

        Raises
        ------
        StoragePermissionError, StorageUnavailableError
            The storage does not list them.
        """
        return self.transfer.list_files()

    def destroy_external_storage(self) -> None:
        """Delete every file of this node, and nothing else.

        Notes
        -----
        Never raises: what could not be removed is logged. Works in `atexit` handlers too, where
        Python starts no more threads: there it hands the work to a child process. Takes at most
        a minute.
        """
        self._placement.shut_down()
        self._state.discard()
        try:
            if isinstance(self.transfer, RemoteTransfer) and is_interpreter_exiting():
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

    def _parse(self, url: str) -> ParsedURL:
        parsed = parse_url_with_offset(url)
        self._location(parsed.base_url)
        return parsed

    def _location(self, base_url: str) -> SpillLocation:
        location = find_location(self._locations, base_url)
        if location is not None:
            return location
        roots = ", ".join(location.root for location in self._locations)
        raise ConfigError(
            f"refused {base_url}: expected a spilled file under {roots}. fsspill reads and deletes "
            "nothing else."
        )


def _destroy(arguments: Mapping[str, Any]) -> None:
    ExternalStorage(**arguments).destroy_external_storage()


def _log_failover(failure: FsspillError) -> None:
    logger.warning("%s %s", failure, MARKED_UNHEALTHY)


def _text(url: bytes | str) -> str:
    return url.decode() if isinstance(url, bytes) else url


def _list_of_uris(uri: str | Sequence[str]) -> list[str]:
    uris = [uri] if isinstance(uri, str) else uri
    if not isinstance(uris, (list, tuple)) or not uris:
        kind = type(uri).__name__
        raise ConfigError(f"cannot spill to a {kind}: expected a URI or a list of URIs.")
    checked = [check_uri(uri) for uri in uris]
    if len(set(checked)) < len(checked):
        raise ConfigError(f"cannot spill to {', '.join(checked)}: expected each URI once.")
    return checked


def _check_types(storage_options: object, shared: object, names: Mapping[str, object]) -> None:
    if storage_options is not None and not isinstance(storage_options, Mapping):
        kind = type(storage_options).__name__
        raise ConfigError(f"cannot use storage_options of type {kind}: expected a mapping.")
    if not isinstance(shared, bool):
        raise ConfigError(f"cannot use shared={shared!r}: expected True or False.")
    for name, value in names.items():
        if not isinstance(value, str):
            raise ConfigError(f"cannot use {name}={value!r}: expected a string.")


def _check_digest(digest: object) -> None:
    if not isinstance(digest, str) or digest not in ALGORITHMS:
        raise ConfigError(f"cannot use digest={digest!r}: expected one of {', '.join(ALGORITHMS)}.")


def _check_compression(compression: object, location: SpillLocation) -> None:
    if compression is None:
        return
    if location.node_local:
        raise ConfigError(
            f"cannot use compression={compression!r} with {location.uri}: expected none, because "
            "Ray's raylet reads the files of a node's own disk itself, as they are. Leave it out, "
            "or use a URI that all nodes share."
        )
    check_codec(compression, location.uri)


def _check_same_kind(
    locations: Sequence[SpillLocation], shared: bool, min_free_bytes: object
) -> None:
    uris = ", ".join(location.uri for location in locations)
    if len({location.local for location in locations}) > 1:
        raise ConfigError(
            f"cannot spill to {uris}: expected only file:// URIs or none, because Ray has one "
            "setting for the whole cluster that says whether spilled files are local to a node."
        )
    if shared and not locations[0].local:
        raise ConfigError(
            f"cannot use shared=True with {uris}: expected a file:// URI. Other storage is shared "
            "by all nodes anyway; leave it out."
        )
    if min_free_bytes and not locations[0].local:
        raise ConfigError(
            f"cannot use min_free_bytes with {uris}: expected a file:// URI. Other storage does "
            "not say how much is free; max_bytes limits what a node spills there."
        )


def _make_transfer(
    locations: Sequence[SpillLocation],
    storage_options: Mapping[str, Any],
    limits: Limits,
    engine: str,
) -> Transfer:
    if not locations[0].local:
        return RemoteTransfer(locations, storage_options, limits, engine)
    if storage_options:
        raise ConfigError(
            f"cannot use storage_options ({', '.join(map(str, storage_options))}) with "
            f"{locations[0].uri}: expected none, local directories take no options."
        )
    return LocalTransfer(locations, limits)


def _owners(object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None) -> Sequence[bytes]:
    if owner_addresses is None:
        return [b""] * len(object_refs)
    if len(owner_addresses) != len(object_refs):
        raise ValueError(
            f"cannot spill {len(object_refs)} objects with {len(owner_addresses)} owner "
            "addresses: expected one for each object, or None."
        )
    return owner_addresses


def _urls(file: SpillFile) -> list[bytes]:
    urls = []
    offset = 0
    for frame in file.stored:
        url = create_url_with_offset(url=file.url, offset=offset, size=frame.size)
        urls.append("&".join([url, *frame.parameters]).encode())
        offset += frame.size
    return urls


def _name(object_ref: Any) -> str:
    return object_ref.hex() if hasattr(object_ref, "hex") else repr(object_ref)
