"""URIs, checked without a request."""

from __future__ import annotations

import sys

import pytest

from fsspill import ConfigError, MissingPackageError
from fsspill.storage.uri import check_uri


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "expected a URI with a protocol"),
        ("bucket/prefix", "expected a URI with a protocol"),
        ("nonsense://x", "fsspec knows no protocol 'nonsense'"),
        ("simplecache::s3://b", "Did you mean 's3://b'"),
        ("s3://b::memory://c", "expected a single filesystem"),
        ("s3://", "expected a bucket or directory"),
        ("file:///", "expected a bucket or directory"),
        ("file://relative/path", "Did you mean 'file:///relative/path'"),
        ("s3://bucket/a?versionId=1", "without any of"),
        ("s3://bucket/a*", "without any of"),
        ("s3://bucket/a[1]", "without any of"),
        ("s3://bucket/../other", "without '..'"),
    ],
)
def test_invalid_uris_are_refused_with_the_reason(uri: str, message: str) -> None:
    """All that can be known without a request is checked."""
    with pytest.raises(ConfigError, match=message):
        check_uri(uri)


@pytest.mark.parametrize("password", ["hunter2", "pa@hunter2", "pa/hunter2", "pa:hunter2"])
def test_a_password_in_a_uri_is_refused_and_not_shown(password: str) -> None:
    """Ray shows configurations in logs and process lists: the message names a variable."""
    with pytest.raises(ConfigError, match="FSSPEC_SFTP_PASSWORD") as caught:
        check_uri(f"sftp://me:{password}@host/dir")
    assert "hunter2" not in str(caught.value)


def test_a_path_with_a_colon_and_an_at_sign_is_no_password() -> None:
    """Only a password in front of the host is one."""
    assert check_uri("memory://b/date=2024-01-01T10:00/u@h")


@pytest.mark.parametrize(
    ("protocol", "module", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure")],
)
def test_a_missing_package_is_reported_with_its_extra(
    protocol: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the command that installs it; it is an ImportError and a ValueError."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("fsspill.storage.packages._version", lambda package: None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(MissingPackageError, match=rf'pip install "fsspill\[{extra}\]"') as caught:
        check_uri(f"{protocol}://bucket")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, ValueError)
