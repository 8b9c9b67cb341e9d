"""Every attribute of the filesystem packages that fsspill relies on besides their interface.

fsspec's interface for filesystems is ``_pipe_file``, ``_cat_file`` and so on, which every release
has. Everything else of s3fs, aiobotocore, gcsfs, adlfs and obstore may change in any of them.

The client of S3 cannot work without those that it uses, so a URI is refused when its filesystem is
made (`check_client`). Without those that obstore needs the filesystem reads, which a line of the
log says, and ``engine="obstore"`` is refused (`fsspill.storage.obstore.open_bucket`).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from fsspill.errors import ConfigError

__all__ = [
    "INTERNALS",
    "Internal",
    "check_client",
    "describe_versions",
    "endpoint_url",
    "known_config",
    "missing",
    "s3_client_meta",
    "s3_verify",
    "soft_delete_days",
    "stop_automatic_md5",
]

Use = Literal["client", "obstore", "fork", "tuning"]


class Internal(NamedTuple):
    """An attribute of a package, and what happens where it is missing."""

    package: str
    """Its distribution."""

    path: str
    """Dotted; one that begins with ``fs`` is an attribute of an instance of the filesystem."""

    use: Use
    """Part of fsspill that relies on it."""

    without: str
    """Consequence for users."""


_REFUSED = "s3:// is refused when the storage is set up"
_SLOWER = "the filesystem reads, and a line of the log says so; engine='obstore' is refused"
_FORKED = "a storage is refused in a forked process"

INTERNALS = (
    Internal("s3fs", "s3fs.core.S3FileSystem._call_s3", "client", _REFUSED),
    Internal("s3fs", "s3fs.core.S3FileSystem.split_path", "client", _REFUSED),
    Internal("s3fs", "s3fs.errors.ERROR_CODE_TO_EXCEPTION", "client", _REFUSED),
    Internal("s3fs", "s3fs.core.S3FileSystem.set_session", "client", _REFUSED),
    Internal("s3fs", "s3fs.core.S3FileSystem.get_s3", "client", _REFUSED),
    Internal(
        "s3fs",
        "fs._s3",
        "tuning",
        "messages name no server, and a server without bulk deletion is asked for one by each call",
    ),
    Internal("s3fs", "fs.set_session", "obstore", _SLOWER),
    Internal("s3fs", "fs.s3", "obstore", _SLOWER),
    Internal("s3fs", "fs.session", "obstore", _SLOWER),
    Internal("s3fs", "fs.s3_additional_kwargs", "obstore", _SLOWER),
    Internal("s3fs", "fs.cache_regions", "obstore", _SLOWER),
    Internal("s3fs", "fs.client_kwargs", "obstore", _SLOWER),
    Internal("s3fs", "fs.req_kw", "obstore", _SLOWER),
    Internal("s3fs", "fs.anon", "obstore", _SLOWER),
    Internal("s3fs", "fs.key", "obstore", _SLOWER),
    Internal("s3fs", "fs.secret", "obstore", _SLOWER),
    Internal("s3fs", "fs.token", "obstore", _SLOWER),
    Internal(
        "aiobotocore",
        "fs.s3.generate_presigned_url",
        "tuning",
        "the filesystem reads from a bucket outside of the configured region",
    ),
    Internal(
        "aiobotocore",
        "aiobotocore.session.AioSession._create_client",
        "tuning",
        "a misspelled name in client_kwargs is refused by the first request, not before it",
    ),
    Internal("aiobotocore", "fs.s3.meta.config.s3", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.config.proxies", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.config.proxies_config", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.config.client_cert", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.config.connect_timeout", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.config.read_timeout", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.endpoint_url", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.s3.meta.region_name", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.session.get_credentials", "obstore", _SLOWER),
    Internal("aiobotocore", "fs.session.get_config_variable", "obstore", _SLOWER),
    Internal(
        "botocore",
        "botocore.config.Config.OPTION_DEFAULTS",
        "tuning",
        "all options are given; one that botocore does not know makes it refuse them by the first "
        "request",
    ),
    Internal(
        "gcsfs",
        "gcsfs.core._location",
        "tuning",
        "NO_PROXY is asked for storage.googleapis.com, not for another endpoint of the environment",
    ),
    Internal("gcsfs", "fs._location", "obstore", _SLOWER),
    Internal("gcsfs", "fs.requester_pays", "obstore", _SLOWER),
    Internal("gcsfs", "fs.session_kwargs", "obstore", _SLOWER),
    Internal("gcsfs", "fs.credentials.credentials", "obstore", _SLOWER),
    Internal("gcsfs", "fs.credentials.maybe_refresh", "obstore", _SLOWER),
    Internal(
        "botocore",
        "botocore.utils.conditionally_calculate_md5",
        "tuning",
        "nothing: a botocore without it computes no MD5 by itself",
    ),
    Internal(
        "gcsfs",
        "fs._use_client_cert",
        "tuning",
        "nothing: a gcsfs without it presents no client certificate, so obstore need not either",
    ),
    Internal(
        "adlfs",
        "fs._rm_files",
        "tuning",
        "nothing: an adlfs without it deletes single files by fsspec's own method",
    ),
    Internal("adlfs", "fs.service_client.url", "obstore", _SLOWER),
    Internal("adlfs", "fs.service_client.account_name", "obstore", _SLOWER),
    Internal("adlfs", "fs.service_client.credential", "obstore", _SLOWER),
    Internal("adlfs", "fs.location_mode", "obstore", _SLOWER),
    Internal("obstore", "obstore.get_range_async", "obstore", _SLOWER),
    Internal("obstore", "obstore.get_async", "obstore", _SLOWER),
    Internal("obstore", "obstore.head_async", "obstore", _SLOWER),
    Internal("obstore", "obstore.store.S3Store", "obstore", _SLOWER),
    Internal("obstore", "obstore.store.GCSStore", "obstore", _SLOWER),
    Internal("obstore", "obstore.store.AzureStore", "obstore", _SLOWER),
    Internal("fsspec", "fsspec.asyn.iothread", "fork", _FORKED),
    Internal("fsspec", "fsspec.asyn.loop", "fork", _FORKED),
    Internal("fsspec", "fsspec.asyn.reset_lock", "fork", _FORKED),
)


def missing(package: str, use: Use) -> list[str]:
    """Return the attributes of a package that a part of fsspill needs and that it lacks.

    Those of instances are left out. Imports the package.
    """
    rows = [row for row in INTERNALS if row.package == package and row.use == use]
    return [row.path for row in rows if not row.path.startswith("fs.") and not _exists(row.path)]


def _exists(path: str) -> bool:
    root, *names = path.split(".")
    try:
        found: Any = importlib.import_module(root)
        for name in names:
            root = f"{root}.{name}"
            if not hasattr(found, name):
                importlib.import_module(root)
            found = getattr(found, name)
    except (AttributeError, ImportError):
        return False
    return True


def check_client(uri: str, client: str, cls: type) -> None:
    """Raise ConfigError if the package of a client lacks what fsspill uses of it.

    Parameters
    ----------
    uri : str
        For the message.
    client : str
        As in `fsspill.storage.protocols.ProtocolTraits`.
    cls : type
        fsspec's class for the protocol, which may have been registered in place of the usual one.
    """
    if client != "s3":
        return
    if lacking := missing("s3fs", "client"):
        raise ConfigError(
            f"cannot spill to {uri}: expected {', '.join(lacking)}, which "
            f"{describe_versions('s3fs')} lacks. Install a version that fsspill supports: "
            'pip install "fsspill[s3]"'
        )
    if not issubclass(cls, importlib.import_module("s3fs.core").S3FileSystem):
        raise ConfigError(
            f"cannot spill to {uri}: found {cls.__module__}.{cls.__qualname__} registered with "
            "fsspec for this protocol. Expected S3FileSystem of s3fs: do not register another."
        )


def known_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for s3fs without those for botocore's client that it does not know.

    botocore before 1.36 knows none for checksums, and makes none unless they are required.
    """
    try:
        known = importlib.import_module("botocore.config").Config.OPTION_DEFAULTS
    except (AttributeError, ImportError):
        return dict(options)
    config = options["config_kwargs"]
    return {**options, "config_kwargs": {name: config[name] for name in config if name in known}}


def s3_client_meta(fs: Any) -> Any:
    """Return endpoint and region of botocore's client, or None until s3fs has made it."""
    return getattr(getattr(fs, "_s3", None), "meta", None)


def s3_verify(fs: Any) -> bool | str:
    """Return the certificates that s3fs trusts: the path of a file, its package's own, or all."""
    verify = fs.client_kwargs.get("verify")
    if verify is None:
        verify = fs.session.get_config_variable("ca_bundle")
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE")
    return True if verify is None else verify


def endpoint_url(fs: Any, kind: str | None) -> str:
    """Return the URL of the server of a filesystem for S3, GCS or Azure; "" if it is not known."""
    if kind == "s3":
        return str(getattr(s3_client_meta(fs), "endpoint_url", ""))
    if kind == "gcs":
        return str(getattr(fs, "_location", ""))
    service = getattr(fs, "service_client", None) if kind == "azure" else None
    return str(getattr(service, "url", "")).partition("?")[0]


async def soft_delete_days(fs: Any, kind: str, bucket: str) -> float:
    """Return the days for which GCS or Azure keeps what is deleted; 0 for none. One request."""
    if kind == "gcs":
        found = await fs._call("GET", "b/{}", bucket, json_out=True)
        policy = found.get("softDeletePolicy") or {}
        return int(policy.get("retentionDurationSeconds") or 0) / 86400
    found = await fs.service_client.get_service_properties()
    policy = found.get("delete_retention_policy")
    return int(policy.days or 0) if policy and policy.enabled else 0


def stop_automatic_md5(client: Any) -> None:
    """Keep a client of S3 from computing the MD5 of every body on its event loop.

    botocore before 1.36 does, though no server but one with Object Lock asks for it: 2 CPU seconds
    per GiB (measured). Later releases do not, and nothing happens.
    """
    compute = getattr(
        importlib.import_module("botocore.utils"), "conditionally_calculate_md5", None
    )
    events = getattr(client.meta, "events", None)
    if compute is not None and events is not None:
        for operation in ("PutObject", "UploadPart"):
            events.unregister(f"before-call.s3.{operation}", compute)


def describe_versions(*packages: str) -> str:
    """Return packages with the versions that are installed, as in "s3fs 2024.2.0, obstore 0.5"."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"
