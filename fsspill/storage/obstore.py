"""A bucket for obstore, with the endpoint and the credentials of an fsspec filesystem.

The filesystem has found both in all the places where it looks: options, environment, profiles,
SSO, web identity, roles of instances and pods. obstore gets the result, and asks the
filesystem's own objects for fresh credentials, so nothing has to be configured twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspill.storage.deadline import within
from fsspill.storage.internals import describe_versions, missing, s3_verify
from fsspill.storage.protocols import CONNECT_TIMEOUT, READ_TIMEOUT
from fsspill.storage.proxies import obstore_proxy, proxy_of_aiohttp, proxy_of_botocore

__all__ = ["UnsupportedByObstoreError", "open_bucket"]

_OF_GET_OBJECT = ("SSECustomer", "ExpectedBucketOwner", "VersionId", "IfMatch")
_AZURE_SCOPE = "https://storage.azure.com/.default"
_NO_TIMEOUT = "1day"

_ANY_KEY = "fsspill"
_TRIAL_SECONDS = 2.0

# Names of rustls in the text of obstore's errors, which have no other trace of the cause.
_OF_CERTIFICATES, _OF_AUTHORITY = "InvalidCertificate", "CaUsedAsEndEntity"


class UnsupportedByObstoreError(Exception):
    """A setting that obstore does not support, or a package that is not as expected.

    The message names it.
    """


async def open_bucket(fs: Any, kind: str, bucket: str, *, asked: bool = False) -> Any:
    """Return obstore's store for a bucket or container.

    Parameters
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        An s3fs, gcsfs or adlfs filesystem.
    kind : {"s3", "gcs", "azure"}
        The store of obstore, as in `fsspill.storage.protocols.ProtocolTraits`.
    bucket : str
        Bucket or container.
    asked : bool
        Ask for the region of a bucket of S3, which is not that of the settings.

    Raises
    ------
    UnsupportedByObstoreError
        The filesystem has a setting that does not carry over, or it or obstore is of a version that
        lacks what is used here (`fsspill.storage.internals`).

    Notes
    -----
    Makes no request to the storage; one with `asked`, and one where S3's certificates are named.
    Looking for credentials may make some, as the filesystem's own first operation does. Belongs to
    the event loop of the filesystem.
    """
    packages = (*_PACKAGES[kind], "obstore")
    if lacking := missing("obstore", "obstore"):
        raise UnsupportedByObstoreError(
            f"{describe_versions('obstore')} lacks {', '.join(lacking)}"
        )
    try:
        place = await _s3_place(fs, bucket) if asked and kind == "s3" else {}
        return await _OPENERS[kind](fs, bucket, **place)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise UnsupportedByObstoreError(
            f"{describe_versions(*packages)} are not as expected: {error}"
        ) from error


async def _s3_place(fs: Any, bucket: str) -> dict[str, str]:
    """Return region and endpoint of a bucket, as the filesystem learns them from redirections."""
    answer = await fs._call_s3("head_bucket", Bucket=bucket)
    # Its host is the one to which requests for the bucket go now. No request.
    url = await fs.s3.generate_presigned_url("head_bucket", Params={"Bucket": bucket})
    host = urlsplit(url)
    return {
        "region": answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"],
        "endpoint": f"{host.scheme}://{host.netloc.removeprefix(f'{bucket}.')}",
    }


async def _open_s3(fs: Any, bucket: str, *, region: str = "", endpoint: str = "") -> Any:
    from obstore.store import S3Store

    await fs.set_session()
    client = fs.s3
    config = client.meta.config
    _check_s3(fs, config, bucket)
    style = (config.s3 or {}).get("addressing_style")
    proxy = proxy_of_botocore(client.meta.endpoint_url, config.proxies)
    trust = await _s3_trust(fs)
    endpoint = endpoint or client.meta.endpoint_url
    if style == "virtual":
        endpoint = endpoint.replace("://", f"://{bucket}.", 1)
    store = S3Store(
        bucket,
        endpoint=endpoint,
        # AWS_ENDPOINT_URL_S3 would override an endpoint that the options of the filesystem set.
        aws_endpoint_url_s3=endpoint,
        region=region or client.meta.region_name or "us-east-1",
        virtual_hosted_style_request=style == "virtual",
        skip_signature=bool(fs.anon),
        request_payer=bool(fs.req_kw or fs.s3_additional_kwargs.get("RequestPayer")),
        credential_provider=None if fs.anon else await _s3_credentials(fs),
        client_options=_client_options(proxy, config.connect_timeout, config.read_timeout, trust),
        retry_config=_NO_RETRIES,
    )
    if "root_certificate" in trust and endpoint.startswith("https:"):
        await _require_accepted_certificate(store)
    return store


async def _require_accepted_certificate(store: Any) -> None:
    """Raise UnsupportedByObstoreError if obstore does not accept the certificate of the server.

    The filesystem may accept it: rustls takes no certificate of an authority from a server. One
    request, for a file that need not be there: whatever else becomes of it is left to the reads.
    """
    import obstore

    try:
        await within(_TRIAL_SECONDS, obstore.head_async(store, _ANY_KEY))
    except Exception as error:
        if _OF_AUTHORITY in str(error):
            raise UnsupportedByObstoreError(
                "the server's certificate may sign others, as one made by openssl's defaults may. "
                "Make it with basicConstraints=critical,CA:FALSE: reads through s3fs take twice "
                "the CPU time"
            ) from error
        if _OF_CERTIFICATES in str(error):
            raise UnsupportedByObstoreError("it refuses the server's certificate") from error


def _check_s3(fs: Any, config: Any, bucket: str) -> None:
    special = [name for name in fs.s3_additional_kwargs if name.startswith(_OF_GET_OBJECT)]
    reasons = {
        f"s3_additional_kwargs {', '.join(special)}": special,
        "an access point": ":" in bucket,
        "a directory bucket": bucket.endswith("--x-s3"),
        "an accelerated endpoint": (config.s3 or {}).get("use_accelerate_endpoint"),
        "proxies_config in config_kwargs": config.proxies_config,
        "a client certificate": config.client_cert,
        "cache_regions": fs.cache_regions,
    }
    _require_none(reasons)


async def _s3_credentials(fs: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return a provider of the credentials that the client of s3fs signs with."""
    found = fs.client_kwargs
    key = fs.key or found.get("aws_access_key_id")
    if key:
        secret = fs.secret or found.get("aws_secret_access_key")
        token = fs.token or found.get("aws_session_token")

        async def given() -> dict[str, Any]:
            return _s3_credential(key, secret, token, None)

        return given
    credentials = await fs.session.get_credentials()
    if credentials is None:
        raise UnsupportedByObstoreError("no credentials")

    async def renewed() -> dict[str, Any]:
        frozen = await credentials.get_frozen_credentials()
        return _s3_credential(frozen.access_key, frozen.secret_key, frozen.token, _now())

    return renewed


def _s3_credential(
    key: str, secret: str, token: str | None, expires_at: datetime | None
) -> dict[str, Any]:
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": expires_at,
    }


async def _s3_trust(fs: Any) -> dict[str, Any]:
    """Return obstore's options for the certificates that are trusted."""
    verify = s3_verify(fs)
    if verify is False:
        return {"allow_invalid_certificates": True}
    if isinstance(verify, str):
        return {"root_certificate": await asyncio.to_thread(Path(verify).read_bytes)}
    return {}


async def _open_gcs(fs: Any, bucket: str) -> Any:
    from obstore.store import GCSStore

    session = dict(fs.session_kwargs)
    trusts_environment = session.pop("trust_env", False)
    from_environment = proxy_of_aiohttp(fs._location) if trusts_environment else None
    proxy = session.pop("proxy", None) or from_environment
    _require_none(
        {
            "requester_pays": fs.requester_pays,
            f"session_kwargs {', '.join(session)}": session,
            "a client certificate": getattr(fs, "_use_client_cert", False),
        }
    )
    credentials = fs.credentials
    refresh = credentials.maybe_refresh

    async def token() -> dict[str, Any]:
        await asyncio.to_thread(refresh)
        return {"token": credentials.credentials.token, "expires_at": _now()}

    anonymous = credentials.credentials is None
    return GCSStore(
        bucket,
        base_url=fs._location,
        skip_signature=anonymous,
        credential_provider=None if anonymous else token,
        client_options=_client_options(proxy and str(proxy)),
        retry_config=_NO_RETRIES,
    )


async def _open_azure(fs: Any, bucket: str) -> Any:
    from obstore.store import AzureStore

    service = fs.service_client
    url, _, signature = service.url.partition("?")
    _require_none({"a secondary location": fs.location_mode != "primary"})
    return AzureStore(
        bucket,
        endpoint=url.rstrip("/"),
        account_name=service.account_name,
        client_options=_client_options(proxy_of_aiohttp(url)),
        retry_config=_NO_RETRIES,
        **_azure_credentials(service.credential, signature),
    )


def _azure_credentials(credential: Any, signature: str) -> dict[str, Any]:
    if signature:
        return {"sas_key": signature}
    if credential is None:
        return {"skip_signature": True}
    if hasattr(credential, "account_key"):
        return {"account_key": credential.account_key}
    if hasattr(credential, "signature"):
        return {"sas_key": credential.signature.lstrip("?")}
    if not hasattr(credential, "get_token"):
        raise UnsupportedByObstoreError(f"a credential of type {type(credential).__name__}")

    async def token() -> dict[str, Any]:
        found = await credential.get_token(_AZURE_SCOPE)
        return {"token": found.token, "expires_at": _now()}

    return {"credential_provider": token}


def _now() -> datetime:
    """Return the expiry of credentials that the filesystem keeps fresh: obstore asks each time.

    It does not ask twice in a tenth of a second. The filesystem checks whether they are still good.
    """
    return datetime.now(timezone.utc)


def _require_none(reasons: Mapping[str, object]) -> None:
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        raise UnsupportedByObstoreError(", ".join(found))


def _client_options(
    proxy: str | None,
    connect_timeout: float = CONNECT_TIMEOUT,
    read_timeout: float = READ_TIMEOUT,
    trust: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    if proxy is not None and not proxy.startswith("http://"):
        raise UnsupportedByObstoreError(f"a proxy of {urlsplit(proxy).scheme}://")
    return {
        **obstore_proxy(proxy),
        "allow_http": True,
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=read_timeout),
        # Of a whole request, which may take any time on a slow link.
        "timeout": _NO_TIMEOUT,
        **(trust or {}),
    }


# fsspill.storage.retry makes the retries, and limits their time.
_NO_RETRIES: dict[str, Any] = {"max_retries": 0}

_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "s3": ("s3fs", "aiobotocore"),
    "gcs": ("gcsfs",),
    "azure": ("adlfs", "azure-storage-blob"),
}

_OPENERS: Mapping[str, Callable[..., Awaitable[Any]]] = {
    "s3": _open_s3,
    "gcs": _open_gcs,
    "azure": _open_azure,
}
"""By `fsspill.storage.protocols.ProtocolTraits.obstore`."""
