"""Secrets in a configuration, which Ray would show."""

from __future__ import annotations

from typing import Any

import pytest
from fsspec.config import set_conf_env

from fsspill import ConfigError
from fsspill.ray.secret_options import reject_secret_options

VALUE = "Hunter2/value+of==a secret"


def test_secrets_are_rejected_by_name() -> None:
    """The error names the options and the variables that take them, and shows no value."""
    options = {"key": "AKIA", "secret": VALUE, "client_kwargs": {"aws_session_token": VALUE}}
    with pytest.raises(ConfigError) as caught:
        reject_secret_options("s3://bucket/x", options)
    message = str(caught.value)
    assert VALUE not in message
    assert "(secret, client_kwargs.aws_session_token)" in message
    for expected in ("ps", "FSSPEC_S3_SECRET", "FSSPEC_S3 (", "AWS_SECRET_ACCESS_KEY"):
        assert expected in message
    assert '"allow_secrets": true' in message


def test_options_without_secrets_are_accepted() -> None:
    """Options that may be shown may stay in the configuration."""
    reject_secret_options(
        "s3://bucket/x", {"key": "AKIA", "anon": False, "endpoint_url": "http://h"}
    )


@pytest.mark.parametrize(
    ("uri", "option"), [("sftp://h/x", "password"), ("gs://b", "token"), ("abfs://c", "sas_token")]
)
def test_fsspec_reads_the_variable_that_is_named(uri: str, option: str) -> None:
    """Set in the environment, it gives the filesystem that very option."""
    with pytest.raises(ConfigError) as caught:
        reject_secret_options(uri, {option: VALUE})
    [variable] = [word.strip(":;,.") for word in str(caught.value).split() if "FSSPEC_" in word]
    read: dict[str, dict[str, Any]] = {}
    set_conf_env(read, {variable: VALUE})
    assert read == {uri.partition("://")[0]: {option: VALUE}}
