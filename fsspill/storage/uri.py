"""Checks of URIs, before any request.

Everything that can be known of a URI without a request is checked here.
"""

from __future__ import annotations

import re

from fsspec.registry import get_filesystem_class, known_implementations, registry

from fsspill.errors import ConfigError
from fsspill.secret_forms import has_password
from fsspill.secrets import redact
from fsspill.storage.packages import import_failure
from fsspill.storage.protocols import protocol_of, secret_places, traits_of
from fsspill.storage.spellings import describe_spelling

__all__ = ["check_shared_by_processes", "check_uri", "filesystem_class", "is_local"]

_UNSAFE = re.compile(r"[?#*\[\]{}\x00-\x1f\\]")


def is_local(uri: str) -> bool:
    """Return True if `uri` names a directory of this machine."""
    return traits_of(uri).is_local


def check_uri(uri: object) -> str:
    """Check a URI as far as possible without a request, and return it without trailing slash.

    Raises
    ------
    ConfigError
        Not a URI, characters that do not survive in a spill URL, a password, an unknown
        protocol, a relative local path.
    MissingPackageError
        The package for its protocol is not installed.

    Notes
    -----
    Makes no request. Imports the package of the protocol.
    """
    if not isinstance(uri, str):
        raise _no_uri_error(uri)
    path = uri.partition("://")[2]
    if has_password(uri):
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: found a password in the URI, which Ray would show in "
            f"logs and process lists. Expected it in the environment: {secret_places(uri)}."
        )
    instead = describe_spelling(uri)
    if instead:
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a URI as fsspec spells it. {instead}"
        )
    if not re.match(r"[a-z][a-z0-9+._-]*://", uri):
        raise _no_uri_error(uri)
    if "::" in uri:
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a single filesystem, found a chain ('::'). "
            "Caching and archive filesystems serve stale data; name the storage itself."
        )
    if _UNSAFE.search(path) or ".." in path.split("/"):
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a path without '..' and without any of "
            "? # * [ ] { } \\, which URLs of spilled objects and fsspec's globs give a meaning."
        )
    if not path.strip("/") and protocol_of(uri) != "memory":
        raise ConfigError(
            f"cannot spill to {uri!r}: expected a bucket or directory after the protocol."
        )
    filesystem_class(uri)
    return uri.rstrip("/")


def check_shared_by_processes(uri: str) -> None:
    """Raise ConfigError for storage that no other process sees: useless for a Ray cluster."""
    if traits_of(uri).is_per_process:
        raise ConfigError(
            f"cannot spill a Ray cluster to {uri}: expected storage that all processes share. "
            f"Every IO worker would see its own {protocol_of(uri)}:// and restore nothing. "
            "Use file:///a/directory on one machine, or a bucket."
        )


def filesystem_class(uri: str) -> type:
    """Return fsspec's class for the protocol of a URI.

    Raises
    ------
    ConfigError
        fsspec knows no such protocol.
    MissingPackageError
        Its package is not installed, or cannot be imported.
    """
    protocol = protocol_of(uri)
    if protocol not in registry and protocol not in known_implementations:
        raise ConfigError(
            f"cannot spill to {uri!r}: fsspec knows no protocol {protocol!r}. Expected one such "
            "as s3, gs, abfs, sftp or file; fsspec.available_protocols() lists them all."
        )
    try:
        cls: type = get_filesystem_class(protocol)
    except Exception as error:  # packages that do not fit together raise anything
        raise import_failure(uri, error) from error
    return cls


def _no_uri_error(found: object) -> ConfigError:
    return ConfigError(
        f"cannot spill to {_shown(found)}: expected a URI with a protocol, such as "
        "'s3://bucket/prefix' or 'file:///mnt/disk'."
    )


def _shown(uri: object) -> str:
    """Return a URI as a message may show it: a password that it may hold is redacted."""
    if not isinstance(uri, str):
        return f"something of type {type(uri).__name__}"
    return redact(repr(uri))
