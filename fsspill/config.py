"""Setting up the storage of this process from a configuration, as Ray does it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fsspill.errors import ConfigError
from fsspill.external_storage import ExternalStorage
from fsspill.interface import NullStorage, Storage
from fsspill.object_store import ObjectStore

__all__ = [
    "arguments_of",
    "delete_spilled_objects",
    "make_external_storage",
    "reset_external_storage",
    "restore_spilled_objects",
    "setup_external_storage",
    "spill_objects",
]

_external_storage: Storage = NullStorage()


def setup_external_storage(
    config: Mapping[str, Any] | None,
    node_id: str | None = None,
    session_name: str | None = None,
    *,
    object_store: ObjectStore | None = None,
) -> Storage:
    """Set up the storage that the functions of this module act on.

    Parameters
    ----------
    config : mapping or None
        ``{"type": ..., "params": {...}}``. Type ``fsspec`` takes the parameters of
        `ExternalStorage`; ``filesystem`` and ``smart_open`` take those of Ray's own classes.
        A falsy one gives a `NullStorage`.
    node_id, session_name : str, optional
        Parts of every file's path, made up where they are not given.
    object_store : ObjectStore, optional
        A new `InMemoryObjectStore` if not given.

    Returns
    -------
    ExternalStorage or NullStorage
        What was set up.

    Raises
    ------
    ConfigError
        The configuration cannot work; what was set up before stays.

    Notes
    -----
    Makes no request: `ExternalStorage.check` does.
    """
    global _external_storage
    _external_storage = make_external_storage(
        config, node_id=node_id, session_name=session_name, object_store=object_store
    )
    return _external_storage


def reset_external_storage() -> None:
    """Forget what was set up."""
    global _external_storage
    _external_storage = NullStorage()


def spill_objects(
    object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
) -> list[bytes]:
    """Spill with the storage that was set up; see `ExternalStorage.spill_objects`."""
    return _external_storage.spill_objects(object_refs, owner_addresses)


def restore_spilled_objects(
    object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
) -> int:
    """Restore with what was set up; see `ExternalStorage.restore_spilled_objects`."""
    return _external_storage.restore_spilled_objects(object_refs, url_with_offset_list)


def delete_spilled_objects(urls: Sequence[bytes | str]) -> None:
    """Delete with what was set up; see `ExternalStorage.delete_spilled_objects`."""
    _external_storage.delete_spilled_objects(urls)


def make_external_storage(
    config: Any,
    *,
    node_id: str | None = None,
    session_name: str | None = None,
    object_store: ObjectStore | None = None,
) -> Storage:
    """Make the storage that `config` describes, without setting it up; see there."""
    if not config:
        return NullStorage()
    return ExternalStorage(
        **arguments_of(config),
        node_id=node_id,
        session_name=session_name,
        object_store=object_store,
    )


def arguments_of(config: Any) -> dict[str, Any]:
    """Return the arguments of `ExternalStorage` that `config` stands for.

    Raises
    ------
    ConfigError
        It is not a configuration, or has parameters that are unknown.
    """
    params = config.get("params") if isinstance(config, Mapping) else None
    if not isinstance(params, Mapping):
        raise ConfigError(
            "cannot set up external storage: expected a mapping such as "
            '{"type": "fsspec", "params": {"uri": "s3://bucket/prefix"}}, found '
            f"{_shape(config)}."
        )
    unknown = set(config) - {"type", "params"}
    if unknown:
        raise ConfigError(
            f"cannot set up external storage: expected only 'type' and 'params', found also "
            f"{_names(unknown)}. Parameters belong into 'params'."
        )
    return _reader(config.get("type"))(params)


_OWN_PARAMETERS = tuple(
    name
    for name in inspect.signature(ExternalStorage).parameters
    if name not in ("node_id", "session_name", "object_store", "on_failover")
)
_FOR_RAY = ("lost_after", "allow_secrets")
"""Parameters that `fsspill.ray.options` reads: they have no meaning without Ray."""

_OF_RAY = {
    "mock_distributed_fs": "a real S3 API: run moto's server and use type 'fsspec' with an s3:// "
    "URI and AWS_ENDPOINT_URL in the environment",
    "unstable_fs": "the fault-injecting filesystem of your choice under type 'fsspec'",
    "slow_fs": "the fault-injecting filesystem of your choice under type 'fsspec'",
}


def _reader(kind: object) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    readers = {
        "fsspec": _read_fsspec,
        "filesystem": _read_filesystem,
        "smart_open": _read_smart_open,
    }
    if isinstance(kind, str) and kind in readers:
        return readers[kind]
    instead = _OF_RAY.get(str(kind), "type 'fsspec' with params.uri")
    raise ConfigError(
        f"cannot set up external storage of type {kind!r}: expected one of {_names(readers)}. "
        f"Use {instead}."
    )


def _read_fsspec(params: Mapping[str, Any]) -> dict[str, Any]:
    # directory_path is what the raylet looks for, to watch the disk; see fsspill.ray.head.
    not_ours = ("directory_path", *_FOR_RAY)
    given = {name: value for name, value in params.items() if name not in not_ours}
    _check_parameters("fsspec", given, _OWN_PARAMETERS, required="uri")
    return given


def _read_filesystem(params: Mapping[str, Any]) -> dict[str, Any]:
    _check_parameters("filesystem", params, ("directory_path", "buffer_size"), "directory_path")
    _check_buffer_size(params)
    paths = params["directory_path"]
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, (list, tuple)) or not all(isinstance(p, str) and p for p in paths):
        raise ConfigError(
            f"cannot use directory_path={params['directory_path']!r}: expected a path or a list of "
            "paths."
        )
    return {"uri": [f"file://{os.path.abspath(path)}" for path in paths]}


def _read_smart_open(params: Mapping[str, Any]) -> dict[str, Any]:
    known = ("uri", "prefix", "buffer_size", "override_transport_params")
    _check_parameters("smart_open", params, known, required="uri")
    _check_buffer_size(params)
    transport = params.get("override_transport_params") or {}
    if not isinstance(transport, Mapping):
        raise _not_a_mapping("override_transport_params", transport)
    arguments: dict[str, Any] = {"uri": params["uri"]}
    if params.get("prefix"):
        arguments["prefix"] = params["prefix"]
    options = _storage_options(transport)
    if options:
        arguments["storage_options"] = options
    return arguments


def _storage_options(transport: Mapping[str, Any]) -> dict[str, Any]:
    """Map smart_open's transport parameters to s3fs's options; refuse the rest by name."""
    options: dict[str, Any] = {}
    for name, value in transport.items():
        if name in ("buffer_size", "defer_seek", "multipart_upload"):
            continue  # how smart_open moves bytes, which fsspill does in its own way
        if name == "min_part_size":
            options["default_block_size"] = value
        elif name == "resource_kwargs":
            options["client_kwargs"] = _mapping(name, value)
        elif name == "client_kwargs" and set(_mapping(name, value)) <= {"S3.Client"}:
            options["client_kwargs"] = _mapping("S3.Client", value.get("S3.Client", {}))
        else:
            raise ConfigError(
                f"cannot use override_transport_params[{name!r}]: expected one of 'min_part_size', "
                "'resource_kwargs', 'client_kwargs' with 'S3.Client' only. Use type 'fsspec' "
                f"instead, with {_COUNTERPARTS.get(name, 'the option of s3fs in storage_options')}."
            )
    return options


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _not_a_mapping(name, value)
    return dict(value)


def _not_a_mapping(name: str, value: object) -> ConfigError:
    kind = type(value).__name__
    return ConfigError(f"cannot use {name} of type {kind}: expected a mapping.")


_COUNTERPARTS = {
    "client": "storage_options={'client_kwargs': {...}}, or AWS_* environment variables",
    "client_kwargs": "storage_options={'s3_additional_kwargs': {...}} for parameters of requests",
    "resource": "storage_options={'client_kwargs': {...}}, or AWS_* environment variables",
    "session": "storage_options={'profile': ...}, or AWS_PROFILE in the environment",
    "timeout": "storage_options={'config_kwargs': {'read_timeout': ...}}",
    "version_id": "nothing: spilled files have a single version",
    "object_kwargs": "storage_options={'s3_additional_kwargs': {...}}",
    "multipart_upload_kwargs": "storage_options={'s3_additional_kwargs': {...}}",
    "singlepart_upload_kwargs": "storage_options={'s3_additional_kwargs': {...}}",
}


def _check_parameters(
    kind: str, params: Mapping[str, Any], known: Sequence[str], required: str
) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ConfigError(
            f"cannot set up external storage of type {kind!r}: unknown parameter "
            f"{_names(unknown)}. Expected some of {_names(known)}."
        )
    if params.get(required) is None:
        raise ConfigError(
            f"cannot set up external storage of type {kind!r}: expected params[{required!r}], "
            "found nothing."
        )


def _check_buffer_size(params: Mapping[str, Any]) -> None:
    """Check Ray's `buffer_size`, for which fsspill has no use: it writes without such a buffer."""
    value = params.get("buffer_size")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ConfigError(f"cannot use buffer_size={value!r}: expected an integer, in bytes.")


def _shape(config: object) -> str:
    """Describe a configuration without its values, which may be secret."""
    if not isinstance(config, Mapping):
        return f"a {type(config).__name__}"
    params = config.get("params")
    return f"type {config.get('type')!r} with params of type {type(params).__name__}"


def _names(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
