"""Names of the options that a filesystem knows, or hands on to packages that do."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from fsspill.storage.protocols import ProtocolTraits

__all__ = ["KnownNames", "known_names", "parameters"]

_OF_FSSPEC = {"listings_expiry_time", "max_paths", "skip_instance_cache", "use_listings_cache"}
"""Options of every filesystem, which no signature names."""

_OF_S3_CONFIG = {
    "addressing_style", "disable_s3_express_session_auth", "payload_signing_enabled",
    "s3_disable_express_session_auth", "s3_disable_multiregion_access_points",
    "us_east_1_regional_endpoint", "use_accelerate_endpoint", "use_arn_region",
    "use_dualstack_endpoint",
}  # fmt: skip
_OF_RETRIES = {"max_attempts", "mode", "total_max_attempts"}
_OF_PROXIES_CONFIG = {
    "proxy_ca_bundle", "proxy_client_cert", "proxy_use_forwarding_for_https"
}  # fmt: skip
_OF_CONNECTOR = {
    "force_close", "keepalive_timeout", "pool_timeout", "resolver", "socket_factory",
    "ssl_context", "ttl_dns_cache", "use_dns_cache", "write_timeout",
}  # fmt: skip
"""All that any release of botocore or aiobotocore has known: no signature names them."""


class KnownNames(NamedTuple):
    """The names that are known in one place.

    Attributes
    ----------
    place : tuple of str
        Options that hold the mapping, from the outermost; empty for ``storage_options`` themselves.
    owner : str
        The class or package that knows them.
    names : collection of str
        The names.
    is_complete : bool
        True if no other name can have an effect in the installed version.
    """

    place: tuple[str, ...]
    owner: str
    names: Collection[str]
    is_complete: bool


def known_names(cls: type, traits: ProtocolTraits) -> Iterator[KnownNames]:
    """Yield the names that a filesystem knows, by the place where they are given.

    Parameters
    ----------
    cls : type
        fsspec's class.
    traits : ProtocolTraits
        The row of the table of protocols.
    """
    own = {*parameters(cls), *_OF_FSSPEC}
    if traits.client == "s3":
        yield from _of_s3(own)
    elif traits.ignores_unknown_options:
        yield KnownNames((), cls.__name__, own, is_complete=True)
    if traits.obstore == "gcs":
        session = importlib.import_module("aiohttp").ClientSession
        yield _of_call(("session_kwargs",), "aiohttp.ClientSession", session.__init__)
    if traits.extra == "sftp":
        connect = importlib.import_module("paramiko").SSHClient.connect
        names = {*own, "host_key_policy", "temppath", *inspect.signature(connect).parameters}
        yield KnownNames((), "paramiko", names, is_complete=False)


def _of_s3(own: set[str]) -> Iterator[KnownNames]:
    session = importlib.import_module("aiobotocore.session").AioSession
    # Which others the session of botocore takes depends on the versions.
    yield KnownNames((), "s3fs", {*own, *parameters(session)}, is_complete=False)
    create = getattr(session, "_create_client", None)
    if create is not None:
        yield _of_call(("client_kwargs",), "aiobotocore", create, {"service_name", "config"})
    config = importlib.import_module("aiobotocore.config").AioConfig
    if options := getattr(config, "OPTION_DEFAULTS", None):
        names = {*options, *parameters(config)}
        yield KnownNames(("config_kwargs",), "botocore", names, is_complete=True)
    for name, names in {
        "s3": _OF_S3_CONFIG,
        "retries": _OF_RETRIES,
        "proxies": {"http", "https"},
        "proxies_config": _OF_PROXIES_CONFIG,
        "connector_args": _OF_CONNECTOR,
    }.items():
        yield KnownNames(("config_kwargs", name), "botocore", names, is_complete=False)
    yield KnownNames(("s3_additional_kwargs",), "S3", _Requests(), is_complete=True)


class _Requests(Collection[str]):
    """The parameters of all requests of S3; s3fs leaves others out without a word.

    They are read from botocore's description of S3 when they are asked for, in 40 ms (measured).
    """

    def __init__(self) -> None:
        self._names: set[str] | None = None

    def _read(self) -> set[str]:
        if self._names is None:
            model = importlib.import_module("botocore.session").Session().get_service_model("s3")
            shapes = (model.operation_model(name).input_shape for name in model.operation_names)
            self._names = {"acl", *(name for shape in shapes if shape for name in shape.members)}
        return self._names

    def __contains__(self, name: object) -> bool:
        return name in self._read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def _of_call(
    place: tuple[str, ...],
    owner: str,
    call: Callable[..., Any],
    left_out: Collection[str] = (),
) -> KnownNames:
    """Return the names of a call's parameters."""
    found = inspect.signature(call).parameters.values()
    names = {one.name for one in found if one.kind in _BY_NAME} - {"self", *left_out}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in found)
    return KnownNames(place, owner, names, is_complete=not takes_any)


def parameters(cls: type) -> dict[str, Any]:
    """Return the named parameters of a class's constructors, with their defaults."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        if "__init__" in vars(base):
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if parameter.kind in _BY_NAME:
                    found[name] = parameter.default
    found.pop("self", None)
    return found


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
