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
import traceback
from collections.abc import Mapping

from fsspill.secrets import redact

__all__ = [
    "ConfigError",
    "CorruptObjectError",
    "FsspillError",
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
    "is_timeout",
    "is_transient",
    "original_cause",
    "translate",
]


class FsspillError(Exception):
    """Base of every error that fsspill raises. No message of one has a secret."""

    def __init__(self, *arguments: object) -> None:
        # Here, and not where messages are made: an option, a URI or a server's answer gets into
        # them in many places.
        super().__init__(*(redact(each) if isinstance(each, str) else each for each in arguments))


class ConfigError(FsspillError, ValueError):
    """The configuration cannot work; nothing was started, written or removed."""


class MissingPackageError(ConfigError, ImportError):
    """The package that speaks a URI's protocol is not installed in this environment."""


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


# Classes of refused or missing credentials that are neither a PermissionError nor
# carry a status code. Named, because importing them would import every cloud SDK.
_REFUSED_BY_NAME = frozenset(
    {
        "ClientAuthenticationError",  # azure.core
        "CredentialRetrievalError",  # botocore
        "DefaultCredentialsError",  # google.auth
        "NoCredentialsError",  # botocore
        "PartialCredentialsError",  # botocore
        "PermissionDeniedError",  # obstore
        "RefreshError",  # google.auth
        "TokenRetrievalError",  # botocore, SSO
        "UnauthenticatedError",  # obstore
    }
)
_MISSING_BY_NAME = frozenset({"ResourceNotFoundError"})  # azure.core
_TIMED_OUT_BY_NAME = frozenset(
    {
        "ConnectTimeoutError",  # botocore
        "ReadTimeoutError",  # botocore
        "ServiceRequestTimeoutError",  # azure.core
        "ServiceResponseTimeoutError",  # azure.core
        "TimeoutError",  # Python's, and until 3.10 asyncio's
    }
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EFBIG, errno.EMSGSIZE, errno.ENAMETOOLONG})
_REFUSED_STATUS = frozenset({400, 405, 411, 413, 414, 415, 422, 431, 451, 501})
"""Statuses of answers to a request that is itself at fault. Not 409, 412, 416, 423, 425 and 429,
which depend on the state of the storage."""
_STATUS_ATTRIBUTES = ("status_code", "status", "code")


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
    Filesystems agree on neither classes nor texts, so this decides by class, class name and
    HTTP status, never by text.
    """
    if isinstance(error, FsspillError):
        return error
    message = f"{action} {location}: {_describe(error)}. "
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404 or _named(error, _MISSING_BY_NAME):
        return StorageNotFoundError(
            message + "Expected the bucket, container or file to exist: create it, or correct "
            "the URI. fsspill creates directories, never buckets."
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return StoragePermissionError(
            message + "Expected permission to write, read, list and delete there: check the "
            "credentials and their policy."
        )
    if _named(error, _REFUSED_BY_NAME):
        return StoragePermissionError(
            message + "Expected credentials that this process can find: set the environment "
            "variables or profile of the storage on every node."
        )
    if isinstance(error, NotImplementedError):
        return ConfigError(
            message + "Expected a filesystem that can write: choose a URI with another protocol."
        )
    if isinstance(error, TypeError):
        return ConfigError(
            message + "Expected storage_options that this filesystem takes: correct their names "
            "and types."
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageFullError(message + "Expected free space there: make room.")
    if _is_refusal(error, status):
        return StorageRefusedError(
            message + "Expected a request that the storage takes: check its limits and policies."
        )
    return StorageUnavailableError(
        message + "Expected the storage to answer: check the endpoint, the network, the disk."
    )


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
    return _named(error, _TIMED_OUT_BY_NAME)


def is_missing(error: BaseException) -> bool:
    """Return True if `error` means that the file does not exist."""
    return isinstance(translate(error, "", ""), StorageNotFoundError)


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


def _named(error: BaseException, names: frozenset[str]) -> bool:
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _is_refusal(error: BaseException, status: int | None) -> bool:
    # S3 answers 400 to a body that does not arrive in time, too.
    if isinstance(error, TimeoutError):
        return False
    return status in _REFUSED_STATUS or (isinstance(error, OSError) and error.errno in _REFUSED)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, or of the one of botocore that s3fs made it of."""
    for attribute in _STATUS_ATTRIBUTES:
        value = getattr(error, attribute, None)
        if isinstance(value, int):
            return value
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, Mapping):
        value = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        return value if isinstance(value, int) else None
    return None


def _describe(error: BaseException) -> str:
    text = " ".join(redact(str(error)).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
