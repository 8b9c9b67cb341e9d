"""Every parameter of fsspill: its default, its type, its check and its documentation, once.

The fields of `Settings` drive the constructor of `fsspill.ExternalStorage`, the configurations
that Ray hands on (`fsspill.config`) and the table of parameters in README.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal, TypeAlias, cast

from fsspill.errors import ConfigError
from fsspill.format.compression import check_codec
from fsspill.format.digest import ALGORITHMS
from fsspill.format.planning import LARGEST_RANGE, SMALLEST_RANGE
from fsspill.secrets import redact, redact_options
from fsspill.storage.layout import check_component
from fsspill.storage.protocols import traits_of
from fsspill.storage.range_reader import check_engine
from fsspill.storage.spellings import is_like_uri
from fsspill.storage.uri import check_uri, is_local

__all__ = [
    "COPY_PARAMETERS",
    "MIB",
    "URI",
    "Settings",
    "check_names",
    "default_text",
    "quote_names",
]

MIB = 2**20
"""Bytes of a mebibyte."""

URI: TypeAlias = str | os.PathLike[str]
"""A URI, or the path of a local directory."""

POLICIES = ("round_robin", "in_order")

MIN_BYTES_IN_FLIGHT = 16 * MIB
"""Smallest `max_bytes_in_flight`: three parts of a multipart upload."""

COPY_PARAMETERS = ("cache_dir", "cache_max_bytes")
"""Parameters of the local copy, which is not needed to spill or restore."""

Check = Callable[[str, Any], Any]
"""Takes the name and the value of a parameter. Returns the value to keep; raises ConfigError."""


def _parameter(
    default: Any = MISSING,
    *,
    check: Check,
    doc: str,
    scope: Literal["cluster", "node"] = "node",
    default_text: str | None = None,
    hash: bool | None = None,
) -> Any:
    """Return a field of `Settings`.

    Parameters
    ----------
    default
        The default; none if left out.
    check : callable
        See `Check`.
    doc : str
        Documentation in Markdown, for help and for README.
    scope : str
        ``cluster`` if all nodes must have the same value, ``node`` if each may have its own.
    default_text : str, optional
        Documentation of the default where the value itself does not tell.
    hash : bool, optional
        See `dataclasses.field`.
    """
    metadata = {"check": check, "doc": doc, "scope": scope, "default_text": default_text}
    return field(default=default, hash=hash, metadata=metadata)


def _check_number(name: str, value: Any, *, kinds: tuple[type, ...], at_least: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds):
        expected = "a number" if float in kinds else "an integer"
        raise ConfigError(f"cannot use {name}={value!r}: expected {expected}.")
    if not value >= at_least:  # type: ignore[operator]  # refuses NaN as well
        raise ConfigError(f"cannot use {name}={value!r}: expected {at_least} or more.")
    return value


def _integer(at_least: int) -> Check:
    return partial(_check_number, kinds=(int,), at_least=at_least)


def _number(at_least: int) -> Check:
    return partial(_check_number, kinds=(int, float), at_least=at_least)


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _one_of(choices: Collection[str]) -> Check:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"cannot use {name}={value!r}: expected one of {', '.join(choices)}.")
        return value

    return check


def _check_bool(name: str, value: Any) -> Any:
    if not isinstance(value, bool):
        raise ConfigError(f"cannot use {name}={value!r}: expected True or False.")
    return value


def _check_mapping(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise ConfigError(f"cannot use {name} of type {kind}: expected a mapping.")
    return dict(value)


def _check_path(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise ConfigError(f"cannot use {name}={value!r}: expected a string.")
    components = [component for component in value.split("/") if component]
    for component in components:
        check_component(name, component)
    return "/".join(components)


def _check_directory(name: str, value: Any) -> Any:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not os.path.isabs(path) or is_like_uri(path):
        raise ConfigError(
            f"cannot use {name}={value!r}: expected the absolute path of a directory on a disk of "
            "this node."
        )
    return os.path.normpath(path)


def _check_uris(name: str, value: Any) -> Any:
    uris = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(uris, (list, tuple)) or not uris:
        kind = type(value).__name__
        raise ConfigError(f"cannot spill to a {kind}: expected a URI or a list of URIs.")
    checked = tuple(check_uri(_uri_of_path(uri)) for uri in uris)
    if len(set(checked)) < len(checked):
        raise ConfigError(f"cannot spill to {', '.join(checked)}: expected each URI once.")
    return checked


def _uri_of_path(uri: Any) -> Any:
    """Return the URI of a path; one that was made of a URI is not taken for a local one."""
    if not isinstance(uri, os.PathLike):
        return uri
    path = os.fspath(uri)
    return path if is_like_uri(path) else f"file://{os.path.abspath(path)}"


def _checked_with_uris(name: str, value: Any) -> Any:
    """Return the value unchecked: `Settings` checks it once the URIs are known."""
    return value


@dataclass(frozen=True, repr=False)
class Settings:
    """The parameters of external storage, checked.

    Instances are values: compared, hashed and pickled as such; `dataclasses.replace` checks
    again. The repr shows what differs from the defaults, with ``***`` in the place of secrets.

    Parameters *per cluster* must have the same value on all nodes; those *per node* may differ.

    Raises
    ------
    ConfigError
        An argument cannot work; the message says which and why. No request was made.
    """

    uri: str | Sequence[str] = _parameter(
        check=_check_uris,
        scope="cluster",
        doc="URI, or list of URIs: files are distributed round-robin (see `policy`). Buckets "
        "must exist; directories are created.",
    )
    _: KW_ONLY
    storage_options: Mapping[str, Any] | None = _parameter(
        None,
        hash=False,
        check=_optional(_check_mapping),
        scope="cluster",
        doc="Options of the filesystem under fsspec's names; they override fsspill's tuning. "
        "Secrets belong in the environment, where filesystems find them: Ray shows these "
        "options in process lists (see `allow_secrets`).",
    )
    prefix: str = _parameter(
        "",
        check=_check_path,
        scope="cluster",
        doc="Path below the URI that contains all files.",
    )
    shared: bool = _parameter(
        False,
        check=_check_bool,
        scope="cluster",
        doc="For `file://`: the directory is mounted on every node (NFS, Lustre), so any node "
        "restores what another one spilled, also after that one died.",
    )
    file_size: int = _parameter(
        8 * MIB,
        check=_integer(at_least=1),
        doc="Bytes up to which objects are fused into one file; a larger object gets its own. "
        "Small files upload concurrently and free their memory sooner, large ones cost fewer "
        "requests.",
    )
    range_size: int | None = _parameter(
        None,
        check=_optional(_integer(at_least=1)),
        default_text=f"{SMALLEST_RANGE // MIB} to {LARGEST_RANGE // MIB} MiB",
        doc="Bytes of one ranged read, up to 8 MiB; by default larger for larger objects. "
        "Objects up to that size are read with one request, larger ones in several concurrent "
        "ranges.",
    )
    max_requests_in_flight: int = _parameter(
        64,
        check=_integer(at_least=1),
        doc="Concurrent requests of each IO worker process.",
    )
    max_bytes_in_flight: int = _parameter(
        128 * MIB,
        check=_integer(at_least=1),
        doc="Bytes buffered by each IO worker process, whatever the size of a batch or an "
        "object: request bodies on upload, ranges not yet copied into the object store on "
        "download. Ray runs up to 8 of these processes on a node.",
    )
    stall_timeout: float = _parameter(
        30.0,
        check=_number(at_least=1),
        doc="Seconds that a call waits for storage that makes no progress, retries included.",
    )
    digest: str = _parameter(
        "xxh3_128",
        check=_one_of(ALGORITHMS),
        doc="Checksum verified on restore. `sha256` also detects tampering by anyone with "
        "write access. Files on a node's own disk have none: the raylet reads them itself.",
    )
    compression: str | None = _parameter(
        None,
        check=_checked_with_uris,
        doc="`lz4` or `zstd`: compressible objects are stored compressed, each by itself. Not "
        "for files on a node's own disk. Objects are restored whatever its value.",
    )
    engine: str = _parameter(
        "auto",
        check=_checked_with_uris,
        doc="Library used for ranged reads from S3, GCS and Azure: `obstore` (Rust), with the "
        "endpoint and credentials of the filesystem; `fsspec`, the filesystem itself; `auto`, "
        "obstore where it is installed, as the extras do.",
    )
    policy: str = _parameter(
        "round_robin",
        check=_one_of(POLICIES),
        doc="With several URIs: `round_robin` distributes files over those that are healthy "
        "and have room; `in_order` uses the first of them.",
    )
    min_free_bytes: int = _parameter(
        0,
        check=_integer(at_least=0),
        doc="For `file://`: bytes of the disk that are left free; further files go to the next "
        "URI.",
    )
    max_bytes: int | None = _parameter(
        None,
        check=_optional(_integer(at_least=1)),
        doc="Bytes that a node may store at each URI; further files go to the next one. "
        "Approximate: writes in progress are not counted, and compressed files count with "
        "their size before compression.",
    )
    cache_dir: str | None = _parameter(
        None,
        check=_optional(_check_directory),
        doc="Existing directory, on a disk of the node, for copies of the files that it spills: it "
        "restores from them at the speed of the disk. Not for `file://`.",
    )
    cache_max_bytes: int | None = _parameter(
        None,
        check=_optional(_integer(at_least=1)),
        doc="Bytes of all these copies of a node, required with `cache_dir`. The least recently "
        "used are removed first.",
    )
    lost_after: float = _parameter(
        1800.0,
        check=_number(at_least=0),
        doc="Under Ray: seconds after which an unreachable object counts as lost on the node "
        "that wants it: `ray.get` raises instead of waiting.",
    )
    durable: bool = _parameter(
        False,
        check=_check_bool,
        scope="cluster",
        doc="Under Ray: objects are stored as soon as they are created, and survive their node. "
        "They stay in memory too. Not for files on a node's own disk.",
    )
    allow_secrets: bool = _parameter(
        False,
        check=_check_bool,
        scope="cluster",
        doc="Under Ray: accept `storage_options` that carry secrets, although Ray shows them "
        "in process lists.",
    )

    def __post_init__(self) -> None:
        for parameter in fields(self):
            checked = parameter.metadata["check"](parameter.name, getattr(self, parameter.name))
            object.__setattr__(self, parameter.name, checked)
        _check_sizes(self)
        _check_kinds_of_uris(self)
        _check_compression(self)
        _check_local_copy(self)
        _check_durable(self)
        for uri in self.uris:
            check_engine(self.engine, uri)
        _check_storage_options(self)

    @classmethod
    def of(cls, uri: Settings | URI | Sequence[URI], **parameters: Any) -> Settings:
        """Return the settings of some arguments.

        Parameters
        ----------
        uri : Settings, str, path or list of those
            URIs, local directories, or settings that `parameters` override.
        **parameters
            Other fields by name.

        Raises
        ------
        ConfigError
            A parameter is unknown, or cannot work.
        """
        check_names(parameters, [parameter.name for parameter in fields(cls)], "external storage")
        if isinstance(uri, Settings):
            return replace(uri, **parameters)
        return cls(cast("str | Sequence[str]", uri), **parameters)  # paths become URIs

    @property
    def uris(self) -> list[str]:
        """The URIs with the prefix."""
        return [f"{uri}/{self.prefix}" if self.prefix else uri for uri in self.uri]

    @property
    def local(self) -> bool:
        """True if the URIs are directories in this machine's own file tree."""
        return is_local(self.uri[0])

    @property
    def node_local(self) -> bool:
        """True if only this machine can read the files."""
        return self.local and not self.shared

    def __repr__(self) -> str:
        shown = {
            parameter.name: getattr(self, parameter.name)
            for parameter in fields(self)
            if getattr(self, parameter.name) != parameter.default
        }
        if self.storage_options:
            for uri in self.uri:
                options = shown["storage_options"]
                shown["storage_options"] = redact_options(options, traits_of(uri).key_is_an_id)
        return redact(f"Settings({', '.join(f'{name}={shown[name]!r}' for name in shown)})")


def check_names(names: Iterable[Any], known: Sequence[str], what: str) -> None:
    """Raise ConfigError if a parameter is unknown; the message has the nearest known name."""
    unknown = sorted(set(names) - set(known), key=str)
    if not unknown:
        return
    nearest = get_close_matches(str(unknown[0]), known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ConfigError(
        f"cannot set up {what}: unknown parameter {quote_names(unknown)}. Expected some of "
        f"{quote_names(known)}.{hint}"
    )


def quote_names(names: Iterable[Any]) -> str:
    """Return names in quotes for a message."""
    return ", ".join(repr(name) for name in names)


def _check_sizes(settings: Settings) -> None:
    limit = settings.max_bytes_in_flight
    if limit < MIN_BYTES_IN_FLIGHT:
        raise ConfigError(
            f"cannot use max_bytes_in_flight={limit}: expected at least {MIN_BYTES_IN_FLIGHT} "
            "bytes, three parts of a multipart upload."
        )
    for name, size in (("file_size", settings.file_size), ("range_size", settings.range_size)):
        if size is not None and size > limit:
            raise ConfigError(
                f"cannot use {name}={size}: expected no more than max_bytes_in_flight={limit}, or "
                "not even one fits."
            )


def _check_kinds_of_uris(settings: Settings) -> None:
    uris = ", ".join(settings.uris)
    if len({is_local(uri) for uri in settings.uri}) > 1:
        raise ConfigError(
            f"cannot spill to {uris}: expected only file:// URIs or none, because Ray has one "
            "setting for the whole cluster that says whether spilled files are local to a node."
        )
    if settings.shared and not settings.local:
        raise ConfigError(
            f"cannot use shared=True with {uris}: expected a file:// URI. Other storage is shared "
            "by all nodes anyway; leave it out."
        )
    if settings.min_free_bytes and not settings.local:
        raise ConfigError(
            f"cannot use min_free_bytes with {uris}: expected a file:// URI. Other storage does "
            "not say how much is free; max_bytes limits what a node spills there."
        )


def _check_compression(settings: Settings) -> None:
    if settings.compression is None:
        return
    if settings.node_local:
        raise ConfigError(
            f"cannot use compression={settings.compression!r} with {settings.uris[0]}: expected "
            "none, because Ray's raylet reads the files of a node's own disk itself, as they are. "
            "Leave it out, or use a URI that all nodes share."
        )
    check_codec(settings.compression, settings.uris[0])


def _check_local_copy(settings: Settings) -> None:
    directory, max_bytes = settings.cache_dir, settings.cache_max_bytes
    if (directory is None) != (max_bytes is None):
        given, missing = COPY_PARAMETERS[:: -1 if directory is None else 1]
        raise ConfigError(
            f"cannot use {given}={getattr(settings, given)!r} without {missing}: expected both, or "
            "neither. There is no default, because the copies count as storage of the node, and on "
            "Kubernetes as ephemeral storage of the pod."
        )
    if directory is None or max_bytes is None:
        return
    if settings.local:
        raise ConfigError(
            f"cannot use cache_dir={directory!r} with {settings.uris[0]}: expected none, because "
            "these files are in a directory of the node already, which the system reads through "
            "its memory. Leave it out, or use the URI of a bucket."
        )
    if max_bytes < settings.file_size:
        raise ConfigError(
            f"cannot use cache_max_bytes={max_bytes}: expected at least file_size="
            f"{settings.file_size}, or not even one file fits."
        )


def _check_durable(settings: Settings) -> None:
    if settings.durable and settings.node_local:
        raise ConfigError(
            f"cannot use durable=True with {settings.uris[0]}: expected storage that outlives a "
            "node, such as a bucket, or shared=True where the directory is mounted on every node."
        )


def _check_storage_options(settings: Settings) -> None:
    if settings.local and settings.storage_options:
        raise ConfigError(
            f"cannot use storage_options ({', '.join(map(str, settings.storage_options))}) with "
            f"{settings.uris[0]}: expected none, local directories take no options."
        )


def default_text(parameter: Field[Any]) -> str:
    """Return the default of a field of `Settings` for documentation, in Markdown."""
    text: str | None = parameter.metadata["default_text"]
    value = parameter.default
    if text is not None:
        return text
    if value is MISSING:
        return ""
    if value is None or value == "":
        return "none"
    if isinstance(value, (bool, str)):
        return f"`{str(value).lower()}`"
    return f"{value // MIB} MiB" if value and value % MIB == 0 else f"{value:g}"


def _document(parameter: Field[Any]) -> str:
    """Return an entry of the docstring of `Settings`."""
    default = default_text(parameter)
    terms = [str(parameter.type), *([f"default {default}"] if default else [])]
    terms.append(f"per {parameter.metadata['scope']}")
    doc = textwrap.fill(parameter.metadata["doc"], 90)
    return f"{parameter.name} : {', '.join(terms)}\n{textwrap.indent(doc, '    ')}\n"


def _document_parameters(docstring: str) -> str:
    """Return the docstring of `Settings` with a section that is made from its fields."""
    entries = "".join(map(_document, fields(Settings)))
    section = f"Parameters\n----------\n{entries}\nRaises"
    return inspect.cleandoc(docstring).replace("Raises", section, 1)


if Settings.__doc__:  # python -OO has none
    Settings.__doc__ = _document_parameters(Settings.__doc__)
