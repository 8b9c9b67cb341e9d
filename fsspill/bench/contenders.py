"""The compared storages: fsspill, fsspill with another parameter, and Ray's own class."""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore
from fsspill.errors import FsspillError
from fsspill.external_storage import ExternalStorage
from fsspill.settings import MIB, Settings
from fsspill.storage.layout import OBJECT_PREFIX
from fsspill.storage.protocols import protocol_of, traits_of

__all__ = [
    "FSSPILL",
    "RAY",
    "Contender",
    "Variant",
    "open_fsspill",
    "open_ray",
    "variants",
    "with_store",
]

FSSPILL = "fsspill"
RAY = "Ray's own"

_READS = frozenset({"GetObject", "HeadObject", "HeadBucket", "get", "head"})
"""Operations that are billed as reads, by their names in boto3 and in `fsspill.metrics`."""


class _Storage(Protocol):
    """The methods of an external storage that Ray calls."""

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes]
    ) -> list[bytes]: ...

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes]
    ) -> int: ...

    def delete_spilled_objects(self, urls: Sequence[bytes]) -> None: ...


@dataclass(frozen=True)
class Variant:
    """A parameter of fsspill with another value than its default.

    Attributes
    ----------
    name : str
        Its name.
    value
        Its value.
    small : bool
        True if it is compared with small objects, which share files.
    """

    name: str
    value: Any
    small: bool = False

    @property
    def title(self) -> str:
        """The parameter as it is shown."""
        size = isinstance(self.value, int) and self.value >= MIB
        return f"{self.name}={self.value // MIB} MiB" if size else f"{self.name}={self.value}"


@dataclass(frozen=True)
class Contender:
    """A storage under measurement.

    Attributes
    ----------
    name : str
        Its name in the tables.
    storage : Storage
        The storage itself.
    count : callable or None
        Returns the number of requests so far by operation; None where there are none.
    variant : Variant or None
        The parameter that differs.
    """

    name: str
    storage: _Storage
    count: Callable[[], Mapping[str, int]] | None = field(default=None, repr=False)
    variant: Variant | None = None

    def spill(self, refs: Sequence[bytes]) -> list[bytes]:
        """Spill all objects, and return their URLs."""
        urls = self.storage.spill_objects(refs, [OWNER_ADDRESS] * len(refs))
        if len(urls) != len(refs):
            raise FsspillError(f"{self.name} spilled {len(urls)} of {len(refs)} objects.")
        return urls

    def restore(self, ref: bytes, url: bytes) -> None:
        """Restore one object; Ray requests them one by one."""
        self.storage.restore_spilled_objects([ref], [url])

    def delete(self, urls: Sequence[bytes]) -> None:
        """Delete spilled objects; Ray's smart_open storage keeps them."""
        self.storage.delete_spilled_objects(urls)

    def requests(self) -> tuple[int, int]:
        """Return the number of writes and of reads so far, as storage bills them."""
        counted = self.count() if self.count else {}
        reads = sum(number for name, number in counted.items() if name in _READS)
        return sum(counted.values()) - reads, reads


def variants(settings: Settings) -> list[Variant]:
    """Return the parameters to try, all of which concern requests to remote storage."""
    if settings.local:
        return []
    found = [
        Variant("range_size", 8 * MIB),
        Variant("max_requests_in_flight", 16),
        Variant("file_size", 16 * MIB, small=True),
    ]
    has_obstore = importlib.util.find_spec("obstore") is not None
    if traits_of(settings.uri[0]).obstore and has_obstore:
        found.append(Variant("engine", "fsspec"))
    return found


def open_fsspill(
    settings: Settings, store: ReusedStore, place: tuple[str, str], variant: Variant | None = None
) -> Contender:
    """Return fsspill with its defaults, or with one parameter changed.

    Parameters
    ----------
    settings : Settings
        The URI, and what is the same for all.
    store : ReusedStore
        The object store.
    place : tuple of str
        Session and node, which name the directory of all files.
    variant : Variant, optional
        The parameter.
    """
    changed = {variant.name: variant.value} if variant else {}
    session, node = place
    storage = ExternalStorage(
        Settings.of(settings, **changed), session_name=session, node_id=node, object_store=store
    )
    count = None if settings.local else partial(_requests, storage)
    name = variant.title if variant else FSSPILL
    return Contender(name, storage, count, variant)


def _requests(storage: ExternalStorage) -> Counter[str]:
    """Return the requests of a storage so far by operation."""
    counted: Counter[str] = Counter()
    for sample in storage.stats():
        if sample.name == "fsspill_requests":
            counted[sample.labels["operation"]] += int(sample.value)
    return counted


@contextmanager
def open_ray(
    settings: Settings, store: ReusedStore, place: tuple[str, str]
) -> Iterator[tuple[Contender | None, str]]:
    """Yield Ray's own class, or None and the reason.

    Parameters
    ----------
    settings : Settings
        The URI.
    store : ReusedStore
        The object store.
    place : tuple of str
        Session and node of fsspill, which removes the files that Ray's class leaves.
    """
    missing = _missing(settings)
    if missing:
        yield None, missing
        return
    from ray._private.external_storage import ExternalStorageSmartOpenImpl, FileSystemStorage

    session, node = place
    root = settings.uris[0] if settings.node_local else f"{settings.uris[0]}/{session}"
    if settings.local:
        storage = FileSystemStorage(node, root.partition("://")[2])
        yield Contender(RAY, with_store(storage, store)), ""
        return
    # Below the directory of the node: of a file of its own, the name alone begins like that.
    below = f"s3://{root.partition('://')[2]}/{OBJECT_PREFIX}_{node}"
    with _boto3_requests() as requests:
        storage = ExternalStorageSmartOpenImpl(node, below)
        yield Contender(RAY, with_store(storage, store), lambda: requests), ""


def _missing(settings: Settings) -> str:
    """Return the reason why Ray's own class cannot take part; empty if it can."""
    protocol = protocol_of(settings.uri[0])
    is_s3 = traits_of(settings.uri[0]).extra == "s3"
    if not settings.local and not is_s3:
        return f"Ray has no class of its own for {protocol}://."
    for name in ("ray", "smart_open", "boto3") if is_s3 else ("ray",):
        if importlib.util.find_spec(name) is None:
            return f"Ray's own class was left out: it needs the package {name}."
    return ""


@contextmanager
def _boto3_requests() -> Iterator[Mapping[str, int]]:
    """Count the requests of boto3's default session, which smart_open uses, by operation."""
    import boto3

    counted: Counter[str] = Counter()

    def count(event_name: str, **_: Any) -> None:
        counted[event_name.rpartition(".")[2]] += 1

    # A session of its own: that of the process may belong to somebody else.
    before, logger = boto3.DEFAULT_SESSION, logging.getLogger("smart_open")
    level = logger.level
    # It warns each time it opens a file that it ignores arguments of Ray.
    logger.setLevel(logging.ERROR)
    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("before-send.s3", count)
    try:
        yield counted
    finally:
        boto3.DEFAULT_SESSION = before
        logger.setLevel(level)


def with_store(storage: Any, store: ReusedStore) -> _Storage:
    """Make one of Ray's storages use `store` instead of a running core worker."""
    storage._get_objects_from_store = store.get_if_local
    storage._put_object_to_store = store.put_file_like_object
    rays: _Storage = storage
    return rays
