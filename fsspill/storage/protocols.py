"""One table of all that differs between protocols.

A protocol without a row works with the defaults of `ProtocolTraits`. Options that the user sets, in
``storage_options`` or in fsspec's own configuration and environment, win over those of the table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "CONNECT_TIMEOUT",
    "OBSTORE_PROTOCOLS",
    "PROTOCOLS",
    "READ_TIMEOUT",
    "ProtocolTraits",
    "has_other_provider",
    "protocol_of",
    "secret_places",
    "traits_of",
]

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 30
"""Seconds of silence after which the filesystem ends a request with an error."""


@dataclass(frozen=True)
class ProtocolTraits:
    """The traits of one protocol.

    Attributes
    ----------
    extra : str or None
        The extra of fsspill that installs its package.
    options : mapping
        Options for the filesystem, under those of the user.
    has_directories : bool
        True if a parent directory must exist before a file is written. Where it is false, only
        files are ever created: making a "directory" there would make a bucket.
    has_directory_objects : bool
        True if a directory may come into being with the first file in it, and stay as an object
        when the last one is deleted.
    ignores_unknown_options : bool
        True if the filesystem takes an option of any name, and uses those that it knows.
    is_local : bool
        True if its URIs name directories of this machine.
    is_per_process : bool
        True if every process has a storage of its own: useless for a cluster.
    client : {"fsspec", "s3"}
        The client that speaks it: ``s3`` uses S3's own API for multipart uploads and bulk deletion
        through s3fs, ``fsspec`` what every filesystem has.
    obstore : {"s3", "gcs", "azure"} or None
        The store of obstore that can read from it.
    secret_variables : str
        Environment variables and other places of the provider where secrets are safe.
    key_is_an_id : bool
        True if the option ``key`` is the id of an access key, which is no secret.
    """

    extra: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    has_directories: bool = True
    has_directory_objects: bool = False
    ignores_unknown_options: bool = False
    is_local: bool = False
    is_per_process: bool = False
    client: Literal["fsspec", "s3"] = "fsspec"
    obstore: Literal["s3", "gcs", "azure"] | None = None
    secret_variables: str = ""
    key_is_an_id: bool = False


# Checksums and signatures of the body are left out where the transport allows: they cost 2 CPU
# seconds per GiB of uploads (measured: 4.0 with botocore's defaults, 1.6 to 2.0 without).
_S3 = ProtocolTraits(
    extra="s3",
    has_directories=False,
    client="s3",
    obstore="s3",
    key_is_an_id=True,
    secret_variables=(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine"
    ),
    options={
        "use_listings_cache": False,
        "config_kwargs": {
            "max_pool_connections": 64,
            # fsspill.storage.retry makes the retries, in a limited time; see connect for s3fs's.
            "retries": {"max_attempts": 0},
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"payload_signing_enabled": False},
        },
    },
)
_GCS = ProtocolTraits(
    extra="gcs",
    has_directories=False,
    ignores_unknown_options=True,
    obstore="gcs",
    secret_variables="GOOGLE_APPLICATION_CREDENTIALS, or a role of the machine",
    options={"use_listings_cache": False},
)
_AZURE = ProtocolTraits(
    extra="azure",
    has_directories=False,
    has_directory_objects=True,  # with a hierarchical namespace (ADLS Gen2)
    ignores_unknown_options=True,
    obstore="azure",
    secret_variables=(
        "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING"
    ),
    options={"connection_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT},
)
# Its own retries, 20 of them with pauses, would keep a thread for minutes, also at exit.
_TOS = ProtocolTraits(
    key_is_an_id=True,
    options={
        "max_retry_num": 1,
        "connection_timeout": CONNECT_TIMEOUT,
        "socket_timeout": READ_TIMEOUT,
    },
)
# fsspec's own, whose constructors hand other options to a base that takes any.
_OF_FSSPEC = ProtocolTraits(ignores_unknown_options=True)
_SFTP = ProtocolTraits(extra="sftp")
_LOCAL = ProtocolTraits(is_local=True)

PROTOCOLS: Mapping[str, ProtocolTraits] = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "sftp": _SFTP,
    "ssh": _SFTP,
    "file": _LOCAL,
    "local": _LOCAL,
    "memory": ProtocolTraits(is_per_process=True),
    "ftp": _OF_FSSPEC,
    "smb": _OF_FSSPEC,
    "webhdfs": _OF_FSSPEC,
    "dbfs": _OF_FSSPEC,
    "oss": ProtocolTraits(key_is_an_id=True),
    "tos": _TOS,
    "tosfs": _TOS,
}
"""Traits by protocol, the part of a URI before ``://``."""

OBSTORE_PROTOCOLS = tuple(name for name, traits in PROTOCOLS.items() if traits.obstore)
"""Protocols that obstore can read from."""


def protocol_of(uri: str) -> str:
    """Return the part of a URI before ``://``."""
    return uri.partition("://")[0]


def traits_of(uri: str) -> ProtocolTraits:
    """Return the traits of a URI's protocol."""
    return PROTOCOLS.get(protocol_of(uri), ProtocolTraits())


def secret_places(uri: str) -> str:
    """Return the environment variables and other places for the secrets of a URI's protocol."""
    traits = traits_of(uri)
    if traits.is_local or traits.is_per_process:
        return ""
    return traits.secret_variables or f"FSSPEC_{protocol_of(uri).upper()}_PASSWORD"


def has_other_provider(uri: str) -> bool:
    """Return True for S3 at an endpoint in the environment that is not AWS's."""
    if traits_of(uri).extra != "s3":
        return False
    found = [os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")]
    return any(".amazonaws.com" not in endpoint for endpoint in found if endpoint)
