"""Spellings of URIs: what each stands for, and those that are URIs already."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from _fsspill_config import is_like_uri as hook_is_like_uri

from fsspill import ConfigError
from fsspill.config import make_settings
from fsspill.storage.spellings import SPELLINGS, describe_spelling, is_like_uri
from fsspill.storage.uri import check_uri

PAGE = Path(__file__).parents[2] / "docs" / "uris.md"

INSTEAD = {
    # what pathlib and a shell make of URIs
    "s3:/bucket/x": "s3://bucket/x",
    "s3:bucket/x": "s3://bucket/x",
    "s3:///bucket/x": "s3://bucket/x",
    "S3://bucket/x": "s3://bucket/x",
    " s3://bucket/x": "s3://bucket/x",
    "'s3://bucket/x'": "s3://bucket/x",
    "gs:/bucket": "gs://bucket",
    "sftp:/host/x": "sftp://host/x",
    "file:/tmp/x": "file:///tmp/x",
    "file:tmp/x": "file:///tmp/x",
    "file://tmp/x": "file:///tmp/x",
    "file://localhost/tmp/x": "file:///tmp/x",
    "FILE:///tmp/x": "file:///tmp/x",
    "file://~/x": f"file://{os.path.expanduser('~')}/x",
    "simplecache::s3://bucket/x": "s3://bucket/x",
    "sftpp://host/x": "sftp://host/x",
    "s3://bucket//x": "s3://bucket/x",
    "gs://bucket/./x/": "gs://bucket/x",
    "abfs://container@account.dfs.core.windows.net//x": (
        "abfs://container@account.dfs.core.windows.net/x"
    ),
    # an endpoint in the place of the bucket
    "s3://bucket.s3.eu-west-1.amazonaws.com/x": "s3://bucket/x",
    "s3://s3.amazonaws.com/bucket/x": "s3://bucket/x",
    "s3://minio.example.com:9000/bucket/x": "s3://bucket/x",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/x": (
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/x"
    ),
    # what consoles show
    "https://s3.console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&tab=objects": (
        "s3://bucket"
    ),
    "https://eu-west-1.console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix=a/b/": (
        "s3://bucket/a/b"
    ),
    "https://bucket.s3.amazonaws.com/x": "s3://bucket/x",
    "https://my.bucket.s3.eu-west-1.amazonaws.com/": "s3://my.bucket",
    "https://bucket.s3-eu-west-1.amazonaws.com/a/b": "s3://bucket/a/b",
    "https://s3.eu-west-1.amazonaws.com/bucket/x": "s3://bucket/x",
    "http://s3.cn-north-1.amazonaws.com.cn/bucket": "s3://bucket",
    "arn:aws:s3:::bucket/x": "s3://bucket/x",
    "arn:aws-cn:s3:::bucket/*": "s3://bucket",
    "https://console.cloud.google.com/storage/browser/bucket/x;tab=objects?project=p": (
        "gs://bucket/x"
    ),
    "https://storage.googleapis.com/bucket/x": "gs://bucket/x",
    "https://storage.cloud.google.com/bucket": "gs://bucket",
    "https://bucket.storage.googleapis.com/x": "gs://bucket/x",
    "https://account.blob.core.windows.net/container/x?sv=2024": (
        "abfs://container@account.dfs.core.windows.net/x"
    ),
    "https://account.dfs.core.windows.net/container": (
        "abfs://container@account.dfs.core.windows.net"
    ),
    "https://0123abcd.r2.cloudflarestorage.com/bucket/x": "s3://bucket/x",
    "https://s3.us-west-004.backblazeb2.com/bucket": "s3://bucket",
    # other programs' protocols
    "s3n://bucket/x": "s3://bucket/x",
    "wasbs://container@account.blob.core.windows.net/x": (
        "abfs://container@account.dfs.core.windows.net/x"
    ),
    "azure://container/x": "az://container/x",
    "cos://bucket/x": "s3://bucket/x",
    "cosn://bucket/x": "s3://bucket/x",
    "r2://bucket/x": "s3://bucket/x",
    "b2://bucket/x": "s3://bucket/x",
    "minio://bucket/x": "s3://bucket/x",
    "scp://host/x": "sftp://host/x",
}
"""What may be given, and the URI that it stands for."""

REMARKS = {
    "https://0123abcd.r2.cloudflarestorage.com/bucket/x": (
        "AWS_ENDPOINT_URL=https://0123abcd.r2.cloudflarestorage.com on every node"
    ),
    "b2://bucket/x": "AWS_ENDPOINT_URL=its endpoint",
    "s3://10.0.0.1:9000/bucket": "AWS_ENDPOINT_URL=http://10.0.0.1:9000, or https://10.0.0.1:9000,",
    "http://localhost:9000/bucket": "AWS_ENDPOINT_URL=http://localhost:9000",
    "https://example.com": "takes no files",
    "adl://account.azuredatalakestore.net/x": "abfs://CONTAINER@ACCOUNT",
    "nfs://server/export": "Mount it on every node",
    "webdav://example.com/x": "{'base_url': 'https://example.com'}",
    "davs://localhost": "{'base_url': 'https://localhost'}",
    "zip://x": "Name the storage itself",
    "blockcache://x": "Name the storage itself",
    "github://x": "Name the storage itself",
}
"""What may be given, and part of what is said of it."""

URIS = [
    "s3://bucket/x",
    "s3a://bucket",
    "s3://bucket/.x/a.",
    's3://bucket/"x"',
    "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/x",
    "s3://b/date=2024-01-01T10:00/u@h",
    "s3://bucket/a:b",
    "gs://bucket/x",
    "gcs://bucket",
    "abfs://container@account.dfs.core.windows.net/x",
    "abfss://container/x",
    "az://container",
    "sftp://h:2222/spill@home",
    "sftp://user@host/x",
    "ssh://host/x",
    "file:///tmp/x",
    "file:///tmp//x",
    "sftp://host//x",
    "file:///tmp/~/localhost",
    "local:///tmp/x",
    "memory://x",
    "memory:///x",
]
"""URIs that are used as they are."""


@pytest.mark.parametrize("text", INSTEAD)
def test_the_message_names_the_uri_to_use(text: str) -> None:
    """Nothing that was meant as a URI is refused without the right form."""
    with pytest.raises(ConfigError, match=re.escape(f"Did you mean {INSTEAD[text]!r}?")):
        check_uri(text)


@pytest.mark.parametrize("text", REMARKS)
def test_the_message_says_what_else_to_do(text: str) -> None:
    """Where a URI is not all that is needed, or there is none."""
    with pytest.raises(ConfigError, match=re.escape(REMARKS[text])):
        check_uri(text)


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_no_spelling_of_another(uri: str) -> None:
    """What works is used as it is."""
    assert not describe_spelling(uri)
    assert check_uri(uri) == uri


@pytest.mark.parametrize("text", [text for text in INSTEAD.values() if "://" in text])
def test_what_is_suggested_is_accepted(text: str) -> None:
    """A user who follows the message is not sent elsewhere."""
    assert check_uri(text) == text


def test_every_spelling_of_the_table_is_tried() -> None:
    """A row without a case could be wrong."""
    cases = [*INSTEAD, *REMARKS]
    for spelling in SPELLINGS:
        assert any(re.fullmatch(spelling.pattern, case) for case in cases), spelling.name


@pytest.mark.parametrize("text", [*INSTEAD, *REMARKS, *URIS])
def test_what_was_meant_as_a_uri_is_no_directory(text: str) -> None:
    """Ray would make a directory of that name; the hook and the package have the same rule."""
    assert is_like_uri(text)
    assert hook_is_like_uri(text)
    with pytest.raises(ConfigError, match="expected a directory"):
        make_settings({"type": "filesystem", "params": {"directory_path": text}})


@pytest.mark.parametrize("text", ["/tmp/x", "/tmp/a:b", "x", "./s3:x", "~/x", "a/b:c"])
def test_a_directory_is_not_taken_for_a_uri(text: str) -> None:
    """Ray's own directories stay what they are."""
    assert not is_like_uri(text)
    assert not hook_is_like_uri(text)


def test_a_password_in_a_link_is_not_shown() -> None:
    """The message shows neither what was given nor a suggestion with the secret in it."""
    for link in (
        "https://me:hunter2@bucket.s3.amazonaws.com/x",
        "https://account.blob.core.windows.net/c/x?sig=hunter2",
        "s3n://me:hunter2@bucket",
    ):
        with pytest.raises(ConfigError) as caught:
            check_uri(link)
        assert "hunter2" not in str(caught.value)


def test_the_page_has_what_is_said() -> None:
    """Every row of the table in the documentation is what the message says."""
    rows = re.findall(r"(?m)^\| `(.+?)` \| (.+) \|$", PAGE.read_text())
    assert len(rows) > 20
    for given, said in rows:
        expected = re.sub(r"Did you mean '(.+?)'\?", r"`\1`.", describe_spelling(given))
        assert said == expected, given
