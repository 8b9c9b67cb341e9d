"""Options that a filesystem would ignore or misunderstand."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.storage.connection import connect
from tests.emulators import AZURE_KEY

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}
STRING = f"DefaultEndpointsProtocol=https;AccountName=one;AccountKey={AZURE_KEY}"


@pytest.mark.parametrize(
    ("uri", "options", "text"),
    [
        ("abfs://c/p", {"acount_name": "one"}, "'acount_name'.*Did you mean 'account_name'"),
        ("abfs://c/p", {"conection_string": STRING}, "Did you mean 'connection_string'"),
        ("gs://b/p", {"requester_pay": True}, "Did you mean 'requester_pays'"),
        ("gs://b/p", {"kms_key": "projects/x"}, "no option 'kms_key', and would ignore it"),
        ("s3://b/p", {"endpont_url": "http://h"}, "Did you mean 'endpoint_url'"),
        ("s3://b/p", {"config_kwargs": {"conect_timeout": 3}}, "Did you mean 'connect_timeout'"),
        ("s3://b/p", {"client_kwargs": {"region": "x"}}, "Did you mean 'region_name'"),
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
    pytest.importorskip(PACKAGES[uri.partition(":")[0]])
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
        ("s3://b/p", {"client_kwargs": {"verify": "/etc/ssl/certs/ca.pem"}}),
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


@pytest.mark.parametrize(("word", "value"), [("false", False), ("True", True), ("0", False)])
def test_words_in_the_environment_are_booleans(
    monkeypatch: pytest.MonkeyPatch, word: str, value: bool
) -> None:
    """FSSPEC_S3_ANON=false is no string that counts as true."""
    pytest.importorskip("s3fs")
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"anon": word})
    assert connect("s3://b/p", {}).sync_fs.anon is value
