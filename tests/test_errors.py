"""Errors: their tree, pickling, translation of filesystems' errors, and formatted durations."""

from __future__ import annotations

import asyncio
import ftplib
import json
import pickle
import re
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import errors
from fsspill.errors import FsspillError, format_seconds, is_missing, is_timeout, translate

TREE: dict[str, tuple[type, ...]] = {
    "ConfigError": (FsspillError, ValueError),
    "MissingPackageError": (errors.ConfigError, ImportError),
    "ObjectNotFoundError": (FsspillError, ValueError),
    "StorageNotFoundError": (FsspillError, FileNotFoundError),
    "StoragePermissionError": (FsspillError, PermissionError),
    "StorageUnavailableError": (FsspillError, OSError),
    "StorageFullError": (errors.StorageUnavailableError,),
    "StorageRefusedError": (errors.StorageUnavailableError,),
    "CorruptObjectError": (FsspillError, ValueError),
}


@pytest.mark.parametrize("name", TREE)
def test_every_error_has_a_builtin_base(name: str) -> None:
    """Each error is an FsspillError and the builtin that a handler would catch."""
    assert getattr(errors, name).__bases__ == TREE[name]


@pytest.mark.parametrize("name", TREE)
def test_errors_pickle(name: str) -> None:
    """Ray carries errors between processes: class and message survive."""
    error = getattr(errors, name)("what, where, expected, found")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) == "what, where, expected, found"


class WithStatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__("refused")
        self.status_code = status_code


class OfSmbError(OSError):
    """Like smbprotocol's: with the number of the operating system, of no class for it."""


def of_s3(error: Exception, status: int) -> Exception:
    """Return an error of s3fs, which is caused by one of botocore."""
    cause = Exception("An error occurred")
    cause.response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
    error.__cause__ = cause
    return error


def of_smb(cause: OSError) -> Exception:
    """Return the error of smbprotocol for a server that it cannot connect to again."""
    error = ValueError("Failed to connect to 'host:445'")
    error.__cause__ = cause
    return error


def named(name: str) -> Exception:
    """Return an error of a class that is known only by its name, like those of cloud SDKs."""
    error: Exception = type(name, (Exception,), {})("reason")
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("x"), errors.StorageNotFoundError),
        (WithStatusError(404), errors.StorageNotFoundError),
        (named("ResourceNotFoundError"), errors.StorageNotFoundError),
        (OfSmbError(2, "No such file"), errors.StorageNotFoundError),
        (ftplib.error_perm("550 No such file or directory"), errors.StorageNotFoundError),
        (OfSmbError(13, "Access denied"), errors.StoragePermissionError),
        (ftplib.error_perm("530 Authentication failed"), errors.StoragePermissionError),
        (OfSmbError(28, "Disk full"), errors.StorageFullError),
        (ftplib.error_temp("452 Insufficient storage space"), errors.StorageFullError),
        (ConnectionError("reset"), errors.StorageUnavailableError),
        (ssl.SSLError(1, "[SSL] record layer failure"), errors.StorageUnavailableError),
        (ssl.SSLWantReadError(2, "not completed"), errors.StorageUnavailableError),
        (socket.gaierror(2, "try again"), errors.StorageUnavailableError),
        (of_smb(OSError(113, "No route to host")), errors.StorageUnavailableError),
        (of_smb(socket.gaierror(-3, "try again")), errors.StorageUnavailableError),
        (ftplib.error_temp("421 Too many connections"), errors.StorageUnavailableError),
        (PermissionError("x"), errors.StoragePermissionError),
        (WithStatusError(403), errors.StoragePermissionError),
        (named("NoCredentialsError"), errors.StoragePermissionError),
        (named("ClientAuthenticationError"), errors.StoragePermissionError),
        (NotImplementedError("x"), errors.ConfigError),
        (TypeError("x"), errors.ConfigError),
        (named("InvalidConfig"), errors.ConfigError),
        (OSError(28, "No space left on device"), errors.StorageFullError),
        (OSError(27, "File too large"), errors.StorageRefusedError),
        (WithStatusError(400), errors.StorageRefusedError),
        (WithStatusError(413), errors.StorageRefusedError),
        (of_s3(OSError(90, "EntityTooLarge"), 400), errors.StorageRefusedError),
        (of_s3(OSError(5, "a code that s3fs does not know"), 400), errors.StorageRefusedError),
        (of_s3(OSError(5, "a code that s3fs does not know"), 403), errors.StoragePermissionError),
        (of_s3(OSError(16, "SlowDown"), 503), errors.StorageUnavailableError),
        (of_s3(TimeoutError("RequestTimeout"), 400), errors.StorageUnavailableError),
        (WithStatusError(409), errors.StorageRefusedError),
        (WithStatusError(429), errors.StorageUnavailableError),
        (OSError("x"), errors.StorageUnavailableError),
        (WithStatusError(503), errors.StorageUnavailableError),
        (named("EndpointConnectionError"), errors.StorageUnavailableError),
        (TimeoutError(), errors.StorageUnavailableError),
    ],
)
def test_filesystem_errors_are_translated(error: Exception, expected: type[Exception]) -> None:
    """Class, class name and status decide; the message has action, location and reason."""
    translated = translate(error, "cannot write", "s3://bucket/key")
    assert type(translated) is expected
    assert "cannot write s3://bucket/key" in str(translated)
    assert type(error).__name__ in str(translated)
    assert "Expected" in str(translated)


def test_fsspill_errors_are_not_translated_again() -> None:
    """An FsspillError is returned unchanged."""
    error = errors.CorruptObjectError("x")
    assert translate(error, "a", "b") is error


def test_only_missing_files_are_missing() -> None:
    """FileNotFoundError and status 404 mean that a file does not exist; a refusal does not."""
    assert is_missing(FileNotFoundError(), "bucket/key")
    assert is_missing(WithStatusError(404), "bucket/key")
    assert not is_missing(PermissionError(), "bucket/key")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.000_01, "less than 0.001 s"),
        (0.001, "0.001 s"),
        (0.25, "0.25 s"),
        (0.5, "0.5 s"),
        (1.0, "1 s"),
        (2.26, "2.3 s"),
        (9.99, "10 s"),
        (30.4, "30 s"),
        (1800, "1800 s"),
    ],
)
def test_durations_are_never_rounded_to_nothing(seconds: float, expected: str) -> None:
    """As many digits as a reader needs, and none for seconds of which there are ten or more."""
    assert format_seconds(seconds) == expected


@given(st.floats(min_value=0, exclude_min=True, max_value=1e9))
def test_only_zero_is_formatted_as_zero(seconds: float) -> None:
    """Every duration above zero has a digit other than 0."""
    assert re.search(r"[1-9]", format_seconds(seconds))


def test_time_outs_are_known_by_their_class() -> None:
    """Those of Python, of asyncio and of the cloud's libraries, which share no class."""

    class ReadTimeoutError(Exception):
        """As botocore's, which is no TimeoutError."""

    for error in (TimeoutError(), asyncio.TimeoutError(), ReadTimeoutError()):
        assert is_timeout(error)
    assert not is_timeout(ConnectionResetError())


def with_cause(error: Exception, cause: Exception) -> Exception:
    """Return an error with a cause."""
    error.__cause__ = cause
    return error


class HTTPClientError(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(f"An HTTP Client raised an unhandled exception: {error}")
        self.kwargs = {"error": error}


@pytest.mark.parametrize(
    ("error", "expected", "advice"),
    [
        (named("ProfileNotFound"), errors.ConfigError, "profile"),
        (named("ParamValidationError"), errors.ConfigError, "that can work"),
        (named("InvalidURL"), errors.ConfigError, "that can work"),
        (ValueError("Invalid endpoint: minio:9000"), errors.ConfigError, "endpoint"),
        (
            with_cause(OSError("TLS"), ssl.SSLCertVerificationError(1, "x")),
            errors.ConfigError,
            "AWS_CA_BUNDLE",
        ),
        (HTTPClientError(ValueError("a line break in a header")), errors.ConfigError, "that can"),
        (
            HTTPClientError(UnicodeDecodeError("utf-8", b"", 0, 1, "cut")),
            errors.StorageUnavailableError,
            "check the endpoint",
        ),
        (named("SSLError"), errors.StorageUnavailableError, "check the endpoint"),
        (json.JSONDecodeError("cut", "{", 1), errors.StorageUnavailableError, "check the endpoint"),
        (named("SSOError"), errors.StoragePermissionError, "log in again"),
        (named("AzureSigningError"), errors.StoragePermissionError, "credentials"),
        (FileNotFoundError(2, "x", "/run/token"), errors.StoragePermissionError, "on this machine"),
        (
            HTTPClientError(FileNotFoundError(2, "x")),
            errors.StoragePermissionError,
            "certificates",
        ),
        (FileNotFoundError(2, "x", "bucket/key"), errors.StorageNotFoundError, "create it"),
        (FileExistsError("x"), errors.StorageRefusedError, "limits"),
        (ModuleNotFoundError("x"), errors.MissingPackageError, "install what is missing"),
    ],
)
def test_errors_of_the_client_are_no_outage(
    error: Exception, expected: type[Exception], advice: str
) -> None:
    """Without an answer the class decides, and the advice is about what is wrong."""
    translated = translate(error, "cannot write", "s3://bucket/key")
    assert type(translated) is expected
    assert advice in str(translated)


def test_a_missing_file_of_credentials_is_no_missing_object() -> None:
    """An object must not count as deleted because a token file is not there."""
    assert not is_missing(FileNotFoundError(2, "x", "/var/run/token"), "bucket/key")
    assert is_missing(FileNotFoundError(2, "x", "/srv/spill/key"), "/srv/spill/key")
    assert is_missing(FileNotFoundError(2, "x", "/srv/spill/key"), "/srv/spill")
