"""Options that a filesystem would ignore or misunderstand."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.storage.connection import connect
from tests.emulators import AZURE_KEY

PACKAGES = {
    "s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "sftp": "paramiko", "smb": "smbclient",
    "webhdfs": "requests", "dbfs": "requests",
}  # fmt: skip
STRING = f"DefaultEndpointsProtocol=https;AccountName=one;AccountKey={AZURE_KEY}"


@pytest.mark.parametrize(
    ("uri", "options", "text"),
    [
        ("abfs://c/p", {"acount_name": "one"}, "'acount_name'.*Did you mean 'account_name'"),
        ("abfs://c/p", {"conection_string": STRING}, "Did you mean 'connection_string'"),
        ("gs://b/p", {"requester_pay": True}, "Did you mean 'requester_pays'"),
        ("gs://b/p", {"kms_key": "projects/x"}, "no such name.*Expected some of access"),
        ("s3://b/p", {"endpont_url": "http://h"}, "Did you mean 'endpoint_url'"),
        ("s3://b/p", {"config_kwargs": {"conect_timeout": 3}}, "Did you mean 'connect_timeout'"),
        ("s3://b/p", {"client_kwargs": {"region": "x"}}, "Did you mean 'region_name'"),
        *[
            ("s3://b/p", {"config_kwargs": options}, f"config_kwargs.*Did you mean {meant!r}")
            for options, meant in [
                ({"retires": {"max_attempts": 2}}, "retries"),
                ({"s3": {"adressing_style": "path"}}, "addressing_style"),
                ({"s3": {"AddressingStyle": "path"}}, "addressing_style"),
                ({"s3": {"use_fips_endpoint": True}}, "config_kwargs.use_fips_endpoint"),
                ({"addressing_style": "path"}, "config_kwargs.s3.addressing_style"),
                ({"retries": {"max_atempts": 2}}, "max_attempts"),
                ({"proxies": {"HTTPS": "http://proxy:1"}}, "https"),
                ({"proxies_config": {"proxy_ca_bundel": "/ca.pem"}}, "proxy_ca_bundle"),
                ({"connector_args": {"keepalive_timout": 1}}, "keepalive_timeout"),
                ({"region": "eu-west-1"}, "region_name"),
            ]
        ],
        ("s3://b/p", {"config_kwargs": {"retries": 5}}, "config_kwargs.retries of type int"),
        ("s3://b/p", {"config_kwargs": {"unheard_of": 5}}, "Expected some of .*read_timeout"),
        ("s3://b/p", {"client_kwargs": {"end_point": "http://h"}}, "mean 'endpoint_url'"),
        ("s3://b/p", {"region_name": "x"}, "Did you mean 'client_kwargs.region_name'"),
        ("s3://b/p", {"verify": False}, "Did you mean 'client_kwargs.verify'"),
        ("s3://b/p", {"ServerSideEncryption": "AES256"}, "mean 's3_additional_kwargs.ServerSide"),
        (
            "s3://b/p",
            {"s3_additional_kwargs": {"ServerSideEncription": "AES256"}},
            "Did you mean 'ServerSideEncryption'",
        ),
        (
            "s3://b/p",
            {"s3_additional_kwargs": {"sse_kms_key_id": "arn"}},
            "Did you mean 'SSEKMSKeyId'",
        ),
        ("gs://b/p", {"session_kwargs": {"trust_enf": True}}, "mean 'trust_env'"),
        ("gs://b/p", {"trust_env": True}, "mean 'session_kwargs.trust_env'"),
        ("sftp://h/p", {"pasword": "x"}, "Did you mean 'password'"),
        ("ftp://h/p", {"user_name": "x"}, "Did you mean 'username'"),
        ("smb://h/p", {"passwd": "x"}, "Did you mean 'password'"),
        ("webhdfs://h/p", {"use_http": True}, "Did you mean 'use_https'"),
        ("dbfs://h/p", {"instanse": "x"}, "Did you mean 'instance'"),
        ("s3://b/p", {"anon": "false"}, "found anon='false', a string.*Expected anon=False"),
        ("s3://b/p", {"requester_pays": "True"}, "Expected requester_pays=True, without quotes"),
        ("s3://b/p", {"client_kwargs": {"verify": "false"}}, "Expected verify=False"),
        ("gs://b/p", {"requester_pays": "no"}, "Expected requester_pays=False"),
        ("abfs://c/p", {"account_name": "one", "anon": "0"}, "Expected anon=False"),
        ("s3://b/p", {"anon": True, "key": "a", "secret": "b"}, "anon, and key, secret"),
        (
            "abfs://c@two.dfs.core.windows.net/p",
            {"connection_string": STRING},
            "the connection string is for the account 'one', not for 'two'",
        ),
        (
            "abfs://c@two.dfs.core.windows.net/p",
            {"account_name": "one", "account_key": AZURE_KEY},
            "account_name is for the account 'one'",
        ),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    uri: str, options: dict[str, Any], text: str
) -> None:
    """The message has the nearest name, the right value, or the contradiction."""
    if package := PACKAGES.get(uri.partition(":")[0]):
        pytest.importorskip(package)
    with pytest.raises(ConfigError, match=text) as caught:
        connect(uri, options)
    assert AZURE_KEY not in str(caught.value)


def test_the_account_of_a_string_in_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Adlfs takes it before the account of the URI."""
    pytest.importorskip("adlfs")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", STRING)
    with pytest.raises(ConfigError, match="for the account 'one', not for 'two'"):
        connect("abfs://c@two.dfs.core.windows.net/p", {})
    connect("abfs://c@one.dfs.core.windows.net/p", {})


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("s3://b/p", {"anon": False, "key": "a", "secret": "b", "use_listings_cache": True}),
        ("s3://b/p", {"client_kwargs": {"verify": "/etc/ssl/certs/ca.pem"}, "config_kwargs": None}),
        (
            "s3://b/p",
            {
                "profile": None,
                "client_kwargs": {"region_name": "x", "use_ssl": True, "api_version": None},
                "config_kwargs": {
                    "connector_args": {"use_dns_cache": False},
                    "max_pool_connections": 3,
                    "proxies": {"http": "http://h", "https": "http://h"},
                    "s3": {
                        "addressing_style": "path",
                        "us_east_1_regional_endpoint": "regional",
                        "of_a_later_release": 1,
                    },
                    "retries": {"mode": "standard", "total_max_attempts": 1},
                },
                "s3_additional_kwargs": {
                    "ACL": "private",
                    "BucketKeyEnabled": True,
                    "ExpectedBucketOwner": "1",
                    "RequestPayer": "requester",
                    "SSECustomerKeyMD5": "x",
                    "ServerSideEncryption": "aws:kms",
                    "StorageClass": "STANDARD_IA",
                    "Tagging": "a=b",
                },
            },
        ),
        ("gs://b/p", {"token": "anon", "session_kwargs": {"trust_env": True, "headers": {}}}),
        ("gs://b/p", {"token": "anon", "requester_pays": True, "listings_expiry_time": 1}),
        ("abfs://c@one.dfs.core.windows.net/p", {"connection_string": STRING, "blocksize": 1}),
        ("file:///tmp", {"auto_mkdir": True, "key": "of another URI"}),
    ],
)
def test_right_options_are_taken(uri: str, options: dict[str, Any]) -> None:
    """Those of the constructor, of its bases, and of fsspec."""
    if package := PACKAGES.get(uri.partition(":")[0]):
        pytest.importorskip(package)
    connect(uri, options)


@pytest.mark.parametrize(
    ("uri", "variable", "value", "instead"),
    [
        ("s3://b/p", "AWS_SECRET_ACCESS_KEY", "hunter2\n", {"key": "a", "secret": "b"}),
        ("s3://b/p", "AWS_ENDPOINT_URL", " http://h", {"endpoint_url": "http://h"}),
        ("s3://b/p", "AWS_DEFAULT_REGION", "eu-west-1 ", {"client_kwargs": {"region_name": "x"}}),
        ("gs://b/p", "STORAGE_EMULATOR_HOST", "http://h\r\n", {"endpoint_url": "http://h"}),
        ("abfs://c/p", "AZURE_STORAGE_CONNECTION_STRING", STRING + "\n", {"anon": True}),
    ],
)
def test_line_breaks_of_secrets_are_named(
    uri: str,
    variable: str,
    value: str,
    instead: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file has one at its end, and what it becomes in a signature or a header names none.

    A variable that is not used is left alone.
    """
    pytest.importorskip(PACKAGES[uri.partition(":")[0]])
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable} begins or ends with") as caught:
        connect(uri, {})
    assert value.strip() not in str(caught.value)
    if "anon" not in instead:
        connect(uri, {"token": "anon", **instead} if uri.startswith("gs") else instead)
        name, last = next(iter(instead.items()))
        if isinstance(last, str):
            with pytest.raises(ConfigError, match=f"{name} begins or ends with"):
                connect(uri, {**instead, name: f"{last}\n"})


@pytest.mark.parametrize(("word", "value"), [("false", False), ("True", True), ("0", False)])
def test_words_in_the_environment_are_booleans(
    monkeypatch: pytest.MonkeyPatch, word: str, value: bool
) -> None:
    """FSSPEC_S3_ANON=false is no string that counts as true."""
    pytest.importorskip("s3fs")
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"anon": word})
    assert connect("s3://b/p", {}).sync_fs.anon is value
