"""The errors that fsspill raises, grouped by what a handler does about them.

::

    FsspillError
    ├── ConfigError (ValueError)                     change the configuration
    │   └── MissingPackageError (ImportError)        install a package
    ├── ObjectNotFoundError (ValueError)             the object store has no such object
    ├── StorageNotFoundError (FileNotFoundError)     a bucket, directory or file is not there
    ├── StoragePermissionError (PermissionError)     change credentials or permissions
    ├── StorageUnavailableError (OSError)            try again later
    │   ├── StorageFullError                         make room, or name another URI
    │   └── StorageRefusedError                      that file goes elsewhere; others are taken
    └── CorruptObjectError (ValueError)              the bytes are not those that were spilled

Every one carries a single message that says what happened, where, what was expected and
what to do; each is raised ``from`` its cause and survives pickling, because Ray carries
errors between processes. `fsspill.error_chain` keeps secrets out of the causes.
"""

from __future__ import annotations

import errno
import re
import ssl
import traceback
from collections.abc import Iterator
from typing import TypeAlias

from fsspill.http_answer import HttpAnswer, causes
from fsspill.secrets import redact
from fsspill.system_error import is_named, number_of, unreachable

__all__ = [
    "ConfigError",
    "CorruptObjectError",
    "FsspillError",
    "InvalidArgumentError",
    "MissingPackageError",
    "ObjectNotFoundError",
    "StorageFullError",
    "StorageNotFoundError",
    "StoragePermissionError",
    "StorageRefusedError",
    "StorageUnavailableError",
    "clear_traceback",
    "format_seconds",
    "is_missing",
    "is_throttled",
    "is_timeout",
    "is_transient",
    "original_cause",
    "translate",
]


class FsspillError(Exception):
    """Base of every error that fsspill raises. No message of one has a secret.

    Attributes
    ----------
    uri : str
        The configured URI that it marked unhealthy; empty if it marked none.
    """

    uri: str = ""

    def __init__(self, *arguments: object) -> None:
        # Here, and not where messages are made: an option, a URI or a server's answer gets into
        # them in many places.
        super().__init__(*(redact(each) if isinstance(each, str) else each for each in arguments))


class ConfigError(FsspillError, ValueError):
    """The configuration cannot work; nothing was started, written or removed."""


class MissingPackageError(ConfigError, ImportError):
    """The package that speaks a URI's protocol is not installed in this environment."""


class InvalidArgumentError(FsspillError, ValueError):
    """An argument is malformed, such as a URL that spilling did not return; nothing was done."""


class ObjectNotFoundError(FsspillError, ValueError):
    """An object that was to be spilled is not in the object store of this node."""


class StorageNotFoundError(FsspillError, FileNotFoundError):
    """A bucket, directory or spilled file does not exist."""


class StoragePermissionError(FsspillError, PermissionError):
    """The storage refused the credentials, or the operation with these credentials."""


class StorageUnavailableError(FsspillError, OSError):
    """The storage could not do its work now: unreachable, overloaded, timed out."""


class StorageFullError(StorageUnavailableError):
    """There is no room: the disk is full, or a limit of the configuration is reached."""


class StorageRefusedError(StorageUnavailableError):
    """The storage refuses this request for good: a file may be too large, or its name forbidden."""


class CorruptObjectError(FsspillError, ValueError):
    """The bytes read are not those that were spilled. None of them reached the object store."""


# Classes of libraries are known by their names: importing them would import every cloud SDK.
_REFUSED_BY_NAME = frozenset(
    {
        "AzureSigningError",  # azure.storage: a key that is no key
        "ClientAuthenticationError",  # azure.core
        "CredentialRetrievalError",  # botocore
        "DefaultCredentialsError",  # google.auth
        "LoginError",  # botocore, aws login
        "NoAuthTokenError",  # botocore
        "NoCredentialsError",  # botocore
        "PartialCredentialsError",  # botocore
        "PermissionDeniedError",  # obstore
        "RefreshError",  # google.auth
        "RefreshWithMFAUnsupportedError",  # botocore
        "SSOError",  # botocore: no token of SSO, or one that has expired
        "TokenRetrievalError",  # botocore, SSO
        "UnauthenticatedError",  # obstore
        "UnknownCredentialError",  # botocore
        "UnknownTokenProviderError",  # botocore
    }
)
_MISCONFIGURED_BY_NAME = frozenset(
    {
        "BaseEndpointResolverError",  # botocore: no region, or an unknown one
        "ConfigNotFound",  # botocore
        "ConfigParseError",  # botocore
        "EndpointProviderError",  # botocore
        "InvalidConfig",  # oci
        "InvalidConfigError",  # botocore
        "InvalidDNSNameError",  # botocore
        "InvalidDefaultsMode",  # botocore
        "InvalidEndpointConfigurationError",  # botocore
        "InvalidIMDSEndpointError",  # botocore
        "InvalidProxiesConfigError",  # botocore
        "InvalidRetryConfigurationError",  # botocore
        "InvalidS3AddressingStyleError",  # botocore
        "InvalidURL",  # aiohttp
        "MissingDependencyException",  # botocore
        "ParamValidationError",  # botocore, such as a name that no bucket can have
        "ProfileNotFound",  # botocore
        "UnknownConfigurationKeyError",  # obstore
        "UnknownSignatureVersionError",  # botocore
        "UnsupportedS3ConfigurationError",  # botocore
        "UnsupportedSignatureVersionError",  # botocore
        "ValidationError",  # botocore, such as a region that cannot be
    }
)
_MISSING_BY_NAME = frozenset({"ResourceNotFoundError"})  # azure.core
_OF_PROXY_BY_NAME = frozenset(
    {
        "ClientHttpProxyError",  # aiohttp
        "ClientProxyConnectionError",  # aiohttp
        "ProxyConnectionError",  # botocore
    }
)
_TIMED_OUT_BY_NAME = frozenset(
    {
        "ConnectTimeoutError",  # botocore
        "ReadTimeoutError",  # botocore
        "ServiceRequestTimeoutError",  # azure.core
        "ServiceResponseTimeoutError",  # azure.core
        "TimeoutError",  # Python's, and until 3.10 asyncio's
    }
)
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EFBIG, errno.EMSGSIZE, errno.ENAMETOOLONG})
_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidIdentityToken",
        "InvalidToken",
        "RequestExpired",
        "TokenRefreshRequired",
    }
)
"""Codes with status 400 that are about credentials: of S3, and of STS for those of a role."""

_LONGEST_TEXT = 600
"""Characters of an exception's text in a message: some hold whole pages."""


def translate(error: BaseException, action: str, location: str) -> FsspillError:
    """Translate an exception of a filesystem into the error of this module that says what to do.

    Parameters
    ----------
    error : BaseException
        The exception. An `FsspillError` is returned as it is.
    action : str
        The action that failed, as in "could not write".
    location : str
        The URL or URI of that action.

    Returns
    -------
    FsspillError
        Not raised here: ``raise translate(error, ...) from error``.

    Notes
    -----
    The HTTP answer that the exception carries decides first (`fsspill.http_answer`), then its
    class: a refusal may pass only if the server says so, by a status of 408, 423, 425, 429 or 500
    and above or by a code such as "SlowDown". What carries no answer and is of no class that is
    known here may pass.
    """
    if isinstance(error, FsspillError):
        return error
    answer = None if is_timeout(error) else HttpAnswer.of(error)
    found = answer and answer.is_permanent and _of_answer(answer, error)
    cls, expected = found or _of_class(error, location, answer)
    return cls(f"{action} {location}: {_describe(error, answer)}. Expected {expected}")


_Meaning: TypeAlias = "tuple[type[FsspillError], str]"
"""A class of errors, and what was expected."""

_BUCKET = (
    "the bucket, container or file to exist: create it, or correct the URI. fsspill creates "
    "directories, never buckets."
)
_PERMISSION = (
    "permission to write, read, list and delete there: check the credentials and their policy."
)


def _of_answer(answer: HttpAnswer, error: BaseException) -> _Meaning:
    """Return the meaning of an answer that another attempt does not change."""
    if answer.is_full:
        return StorageFullError, "free space there: make room, or raise the quota."
    if answer.is_of_other_region:
        region = answer.region or "<region>"
        return ConfigError, (
            "the region of the bucket: set AWS_DEFAULT_REGION, or storage_options="
            f"{{'client_kwargs': {{'region_name': '{region}'}}}}."
        )
    if answer.status == 407 or answer.status == 511:
        return StoragePermissionError, (
            "the proxy to let this process through: check HTTP_PROXY or HTTPS_PROXY, its user and "
            "password, or name the storage in NO_PROXY."
        )
    if answer.is_page:
        cls = StoragePermissionError if answer.status in (401, 403) else StorageRefusedError
        return cls, (
            "an answer of the storage: a page is one of a proxy, a console or another server. "
            "Check the endpoint, HTTPS_PROXY and NO_PROXY."
        )
    if answer.status == 404:
        return StorageNotFoundError, _BUCKET
    if answer.code == "RequestTimeTooSkewed":
        return StoragePermissionError, "the right time: set the clock of this machine."
    if "KMS." in answer.code:
        return StorageRefusedError, "a key of KMS that exists, is enabled and may be used here."
    denied = isinstance(error, PermissionError) and answer.status not in (405, 409)
    if denied or answer.status in (401, 403) or answer.code in _CREDENTIAL_CODES:
        return StoragePermissionError, _PERMISSION
    if re.search(_PAYLOAD, f"{answer.code} {answer.message}", re.IGNORECASE):
        return StorageRefusedError, (
            "a request that the storage takes: where it wants bodies signed, set "
            "storage_options={'config_kwargs': {'s3': {'payload_signing_enabled': True}}}."
        )
    if answer.code in ("", str(answer.status)):
        return StorageRefusedError, (
            "a request that the storage takes. The answer has no code of a storage: check the "
            "endpoint, its port, whether it is https:// or http://, and any proxy; then the limits "
            "and policies of the storage."
        )
    return StorageRefusedError, "a request that the storage takes: check its limits and policies."


_PAYLOAD = "content-sha256|unsigned.?payload"


def _of_class(error: BaseException, location: str, answer: HttpAnswer | None) -> _Meaning:
    """Return the meaning of an exception by its class."""
    if _is_local_file(error, location):
        return StoragePermissionError, (
            "that file on this machine: it is one of the credentials or certificates that the "
            "environment, a profile or storage_options name."
        )
    number = number_of(error)
    if number == errno.ENOENT or is_named(error, _MISSING_BY_NAME):
        return StorageNotFoundError, _BUCKET
    if number in _DENIED:
        return StoragePermissionError, _PERMISSION
    if is_named(error, _REFUSED_BY_NAME):
        return StoragePermissionError, (
            "credentials that this process can find: set the environment variables or profile of "
            "the storage on every node, and log in again where they have expired."
        )
    if isinstance(error, NotImplementedError):
        return ConfigError, "a filesystem that can write: choose a URI with another protocol."
    if isinstance(error, ImportError):
        return MissingPackageError, (
            "the packages of this filesystem in this Python environment: install what is missing, "
            "on every node."
        )
    if isinstance(error, TypeError):
        return ConfigError, (
            "a call that this filesystem takes: correct the names and types of storage_options, or "
            "without any, use versions of its packages that fit together."
        )
    if found := _of_tls(error):
        return found
    # Subclasses of ValueError are what parsers raise for an answer that is cut off; smbprotocol has
    # it for a server that it does not reach.
    is_misuse = type(_unwrapped(error)) is ValueError and not unreachable(error)
    if is_misuse or any(is_named(each, _MISCONFIGURED_BY_NAME) for each in _all(error)):
        return ConfigError, (
            "a URI, storage_options, profile and endpoint that can work: correct what is named."
        )
    if number in _FULL:
        return StorageFullError, "free space there: make room."
    # gcsfs drops the status 412, and raises only FileExistsError.
    if number in _REFUSED or isinstance(error, FileExistsError):
        return StorageRefusedError, "a request that the storage takes: check its limits."
    if any(is_named(each, _OF_PROXY_BY_NAME) for each in _all(error)):
        return StorageUnavailableError, (
            "the proxy to answer: check HTTP_PROXY or HTTPS_PROXY, or name the storage in NO_PROXY."
        )
    if answer:
        return StorageUnavailableError, "the storage, and any proxy before it, to do its work."
    return StorageUnavailableError, (
        "the storage to answer: check the endpoint, the network, the disk."
    )


def _of_tls(error: BaseException) -> _Meaning | None:
    """Return the meaning of an error about certificates, or of what is no TLS; None of others."""
    for each in _all(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return ConfigError, (
                "a certificate that this machine trusts, for the host of the endpoint: name the "
                "file with the certificate of its authority, in AWS_CA_BUNDLE for s3://, else in "
                "SSL_CERT_FILE."
            )
        # aiohttp's are of this class too, and lack its attributes.
        if isinstance(each, ssl.SSLError) and getattr(each, "library", None) in _OF_FILES:
            return ConfigError, "a file of certificates: correct what the environment names as one."
        if isinstance(each, ssl.SSLError) and getattr(each, "reason", None) in _NO_TLS:
            return StorageUnavailableError, (
                "an endpoint that speaks TLS: check its port, and whether it is http:// and not "
                "https://."
            )
    return None


_OF_FILES = ("X509", "PEM")
_NO_TLS = ("HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "WRONG_VERSION_NUMBER")


def _unwrapped(error: BaseException) -> BaseException:
    """Return the error that botocore has found no class for, such as a key with a line break."""
    is_unclassified = type(error).__name__ == "HTTPClientError"
    return list(causes(error))[:2][-1] if is_unclassified else error


def _all(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes, and those that aiohttp keeps in an attribute."""
    for cause in causes(error):
        yield cause
        for attribute in ("certificate_error", "os_error"):
            inner = getattr(cause, attribute, None)
            yield from causes(inner) if isinstance(inner, BaseException) else ()


def _is_local_file(error: BaseException, location: str) -> bool:
    """Return True if a file of this machine is missing, not one of the storage.

    The error says so with the absolute path of a file that is not below the location.
    """
    location = location.partition("://")[2] or location
    for each in _all(error):
        if isinstance(each, FileNotFoundError) and each.errno == errno.ENOENT:
            name = each.filename
            if not isinstance(name, str):
                return each is not error and name is None
            return name.startswith("/") and name not in location and location not in name
    return False


def original_cause(failure: FsspillError, error: BaseException) -> BaseException | None:
    """Return the cause from which to raise `failure`, which `translate` made of `error`.

    An error that `translate` returned unchanged keeps the cause that it has: as its own cause it
    would make the chain endless.
    """
    return error.__cause__ if failure is error else error


def is_transient(error: FsspillError) -> bool:
    """Return True if the same request may succeed when it is made again."""
    lasting = (StorageFullError, StorageRefusedError)
    return isinstance(error, StorageUnavailableError) and not isinstance(error, lasting)


def is_timeout(error: BaseException) -> bool:
    """Return True if `error` means that something took too long, here or in a filesystem."""
    return is_named(error, _TIMED_OUT_BY_NAME)


def is_throttled(error: BaseException) -> bool:
    """Return True if `error` is the answer of a storage that throttles."""
    answer = HttpAnswer.of(error)
    return answer is not None and answer.is_throttled


def is_missing(error: BaseException, path: str) -> bool:
    """Return True if `error` means that the file at `path` does not exist.

    Not if it is about another file, such as one of credentials, or no answer of the storage.
    """
    return isinstance(translate(error, "", path), StorageNotFoundError)


def clear_traceback(error: BaseException) -> None:
    """Drop the references of an error's traceback frames: they pin objects that are spilled."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def format_seconds(seconds: float) -> str:
    """Return a duration for a message, such as "30 s" or "0.5 s"; "0 s" only if it is zero."""
    if 0 < seconds < 0.001:
        return "less than 0.001 s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _describe(error: BaseException, answer: HttpAnswer | None) -> str:
    text = " ".join(redact(str(error)).partition("Debug source:")[0].split()).rstrip(".")
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]} ..."
    described = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{described} ({answer})" if answer else described
