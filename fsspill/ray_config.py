"""Translation of the storage types that Ray configures into parameters of `Settings`.

``fsspec`` is fsspill's own type; ``filesystem`` and ``smart_open`` are those of Ray's classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from fsspill.errors import ConfigError
from fsspill.secrets import redact
from fsspill.settings import Settings, check_names
from fsspill.storage.spellings import is_like_uri

__all__ = ["PARAMETERS_OF_TYPE", "RAY_TEST_TYPES"]

RAY_TEST_TYPES: Mapping[str, str] = {
    "mock_distributed_fs": "a real S3 API: run moto's server and use type 'fsspec' with an s3:// "
    "URI and AWS_ENDPOINT_URL in the environment",
    "unstable_fs": "the fault-injecting filesystem of your choice under type 'fsspec'",
    "slow_fs": "the fault-injecting filesystem of your choice under type 'fsspec'",
}
"""Types of storage in Ray's own tests, and what to use instead of each."""


def _translate_fsspec(params: Mapping[str, Any]) -> dict[str, Any]:
    # directory_path is what the raylet looks for, to watch the disk; see fsspill.ray.head.
    given = {name: value for name, value in params.items() if name != "directory_path"}
    _check_parameters("fsspec", given, [field.name for field in fields(Settings)], required="uri")
    return given


def _translate_filesystem(params: Mapping[str, Any]) -> dict[str, Any]:
    _check_parameters("filesystem", params, ("directory_path", "buffer_size"), "directory_path")
    _check_buffer_size(params)
    paths = params["directory_path"]
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, (list, tuple)) or not all(isinstance(p, str) and p for p in paths):
        raise ConfigError(
            f"cannot use directory_path={params['directory_path']!r}: expected a path or a list of "
            "paths."
        )
    for path in filter(is_like_uri, paths):
        raise ConfigError(
            f"cannot use directory_path={redact(repr(path))}: expected a directory. Use type "
            "'fsspec' with params.uri for a URI."
        )
    return {"uri": [f"file://{os.path.abspath(path)}" for path in paths]}


def _translate_smart_open(params: Mapping[str, Any]) -> dict[str, Any]:
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
    """Return s3fs's options for smart_open's transport parameters; raise for those without one."""
    options: dict[str, Any] = {}
    for name, value in transport.items():
        if name in ("buffer_size", "defer_seek", "multipart_upload"):
            continue  # transfer tuning of smart_open; fsspill has its own
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
    check_names(params, known, f"external storage of type {kind!r}")
    if params.get(required) is None:
        raise ConfigError(
            f"cannot set up external storage of type {kind!r}: expected params[{required!r}], "
            "found nothing."
        )


def _check_buffer_size(params: Mapping[str, Any]) -> None:
    """Check Ray's `buffer_size`. It has no effect: fsspill writes without such a buffer."""
    value = params.get("buffer_size")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ConfigError(f"cannot use buffer_size={value!r}: expected an integer, in bytes.")


Translation = Callable[[Mapping[str, Any]], dict[str, Any]]

PARAMETERS_OF_TYPE: Mapping[str, Translation] = {
    "fsspec": _translate_fsspec,
    "filesystem": _translate_filesystem,
    "smart_open": _translate_smart_open,
}
"""By type, the function that returns parameters of `Settings` for those in a configuration."""
