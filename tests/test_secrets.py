"""Secrets: found among options, replaced in texts."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import ExternalStorage, FsspillError, secrets
from fsspill.errors import translate
from fsspill.secrets import find_secrets, redact, remember
from fsspill.storage.protocols import traits_of
from fsspill.testing.s3_server import S3Server
from tests.timeouts import IMPATIENT, PATIENT, cleanup_limit

VALUE = "Hunter2/value+of==a secret"
SAS = f"sv=2022-11-02&se=2030-01-01&sig={quote(VALUE, '')}"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"


@contextmanager
def remembering(*options: Mapping[str, Any]) -> Iterator[None]:
    """Remember these options, and nothing else, until the block ends."""
    with mock.patch.object(secrets, "_remembered", set()):
        for each in options:
            remember(each)
        yield


@pytest.mark.parametrize(
    ("protocol", "options", "expected"),
    [
        ("s3", {"key": "AKIA", "secret": "x", "token": "y"}, ["secret", "token"]),
        ("s3", {"password": "x", "username": "u"}, ["password"]),
        (
            "s3",
            {"client_kwargs": {"aws_access_key_id": "AKIA", "aws_secret_access_key": "x"}},
            ["client_kwargs.aws_secret_access_key"],
        ),
        (
            "s3",
            {"s3_additional_kwargs": {"SSECustomerKey": "x", "SSEKMSKeyId": "arn"}},
            ["s3_additional_kwargs.SSECustomerKey"],
        ),
        (
            "s3",
            {"config_kwargs": {"proxies": {"http": "http://u:x@proxy"}, "user_agent": "a"}},
            ["config_kwargs.proxies.http"],
        ),
        ("oss", {"key": "id", "secret": "x"}, ["secret"]),
        ("other", {"key": "x"}, ["key"]),
        ("abfs", {"account_name": "n", "account_key": "x"}, ["account_key"]),
        ("abfs", {"sas_token": "sv=1&sig=x", "account_host": "h"}, ["sas_token"]),
        ("abfs", {"connection_string": "x"}, ["connection_string"]),
        ("abfs", {"tenant_id": "t", "client_id": "c", "client_secret": "x"}, ["client_secret"]),
        ("abfs", {"credential": object()}, ["credential"]),
        ("gs", {"token": "ya29.x"}, ["token"]),
        ("gs", {"token": json.dumps({"type": "x", "private_key": PEM})}, ["token"]),
        (
            "gs",
            {"token": {"type": "service_account", "private_key_id": "i", "private_key": PEM}},
            ["token.private_key"],
        ),
        ("gs", {"token": {"anything": "else"}}, ["token"]),
        ("sftp", {"host": "h", "password": 1234, "passphrase": "x"}, ["password", "passphrase"]),
        ("sftp", {"pkey": object(), "key_filename": "/a", "look_for_keys": True}, ["pkey"]),
        ("https", {"headers": {"Authorization": "x", "Accept": "y"}}, ["headers.Authorization"]),
        ("https", {"client_kwargs": {"cookies": {"session": "x"}}}, ["client_kwargs.cookies"]),
        ("webdav", {"auth": ["user", "x"], "base_url": "https://h"}, ["auth"]),
        ("obs", {"aws_session_token": "x", "aws_skip_signature": "true"}, ["aws_session_token"]),
        ("obs", {"config": {"secretAccessKey": "x"}}, ["config.secretAccessKey"]),
        ("any", {"target_options": {"fo": [{"token": "x"}]}}, ["target_options.fo.0.token"]),
        ("any", {"whatever": "AccountName=a;AccountKey=x;"}, ["whatever"]),
        ("any", {"whatever": PEM}, ["whatever"]),
    ],
)
def test_options_with_secrets_are_found(
    protocol: str, options: Mapping[str, Any], expected: list[str]
) -> None:
    """The options of fsspec's filesystems that carry a secret are named, and no other."""
    assert find_secrets(options, traits_of(f"{protocol}://x").key_is_an_id) == expected


@pytest.mark.parametrize("word", ["anon", "cloud", "google_default", "cache", "browser"])
def test_token_sources_are_not_secrets(word: str) -> None:
    """The words that gcsfs takes for a token say where it comes from."""
    assert find_secrets({"token": word}) == []
    assert find_secrets({"secret": word}) == ["secret"]


@pytest.mark.parametrize("path", ["/etc/key", "~/key", "./key", "../key", "key.json"])
def test_path_of_a_token_file_is_not_a_secret(path: str) -> None:
    """The path of a token file may be shown; the same text as a password may not."""
    assert find_secrets({"token": path, "application_credentials": path}) == []
    assert find_secrets({"password": path}) == ["password"]


@pytest.mark.parametrize("value", ["", None, False, True, 0, [], {}])
def test_options_without_a_value_are_not_secrets(value: Any) -> None:
    """Empty values and switches carry no secret."""
    assert find_secrets({"secret": value, "token": value, "auth": value}) == []


@pytest.mark.parametrize(
    "name",
    [
        "anon",
        "aws_access_key_id",
        "aws_web_identity_token_file",
        "cache_regions",
        "credentials_provider",
        "endpoint_url",
        "key_filename",
        "max_tokens",
        "monkey",
        "bypass",
        "public_key",
        "requester_pays",
        "signature_version",
        "token_uri",
        "username",
    ],
)
def test_names_that_mention_a_secret_are_harmless(name: str) -> None:
    """A name that only mentions a secret does not carry one."""
    assert find_secrets({name: "value"}) == []


# Few characters, so that secrets overlap, contain one another and look like what replaces them.
values = st.text("ab*% \n\"'\\é", min_size=1, max_size=12) | st.text(min_size=1, max_size=40)
texts = st.lists(values | st.sampled_from(["*", "***", " ", "\n"]), max_size=12)


def plain(text: str) -> str:
    return " ".join(text.split())


@given(given_values=st.lists(values, min_size=1, max_size=4), other=texts, data=st.data())
def test_remembered_secrets_are_redacted_in_any_text(
    given_values: list[str], other: list[str], data: st.DataObject
) -> None:
    """No secret of 4 characters or more remains, in any notation."""
    forms = [
        form
        for value in given_values
        for form in (value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1])
    ]
    hidden = data.draw(st.lists(st.sampled_from(forms), min_size=1, max_size=4))
    text = "".join(data.draw(st.permutations([*other, *hidden])))
    with remembering({"secret": given_values[0], "more": {"auth": given_values[1:]}}):
        shown = redact(text)
    for form in filter(lambda form: len(plain(form)) >= 4, forms):
        assert plain(form) not in plain(shown)


@given(text=st.text(max_size=200))
def test_text_without_secrets_is_unchanged(text: str) -> None:
    """Nothing changes if nothing is remembered and nothing looks like a secret."""
    harmless = text.replace("=", "").replace(":", "").replace("-----", "")
    with remembering({}):
        assert redact(harmless) == harmless


@pytest.mark.parametrize("value", ["abc", " abc ", b"abc", 123])
def test_short_secrets_are_not_redacted(value: Any) -> None:
    """Fewer than 4 characters would occur in any text."""
    with remembering({"password": value}):
        assert redact("abc 123 of abc") == "abc 123 of abc"


@pytest.mark.parametrize("value", [VALUE, VALUE.encode(), [VALUE], {"password": VALUE}])
def test_every_kind_of_value_is_remembered(value: Any) -> None:
    """Text, bytes, lists and mappings, whatever white space a message shows them with."""
    with remembering({"password": value}):
        assert redact(f"<{VALUE}> <{VALUE.replace(' ', chr(10))}>") == "<***> <***>"


def test_secret_is_redacted_as_a_whole() -> None:
    """The rest is redacted even if a part of it looks like a secret by itself."""
    with remembering({"connection_string": "Account=a;AccountKey=b c;Endpoint=d"}):
        assert redact("<Account=a;AccountKey=b c;Endpoint=d>") == "<***>"


def test_harmless_options_are_not_remembered() -> None:
    """Names of buckets, endpoints and the like stay readable."""
    with remembering({"token": "google_default", "endpoint_url": "http://host", "anon": False}):
        assert redact("google_default http://host False") == "google_default http://host False"


BASIC = base64.b64encode(b"user:hunter2").decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password='unended \\'", "password='***'"),
        ("secret=b'x y' z", "secret='***' z"),
        ("AccountName=a;AccountKey=aB+/0==;Suffix=b", "AccountName=a;AccountKey=***;Suffix=b"),
        ("SharedAccessSignature=sv=1&sig=a%2F;x", "SharedAccessSignature=***;x"),
        ("https://h/c?sv=1&sig=a%2Fb&se=2", "https://h/c?sv=1&sig=***&se=2"),
        ("?X-Amz-Signature=0f&X-Amz-Date=1", "?X-Amz-Signature=***&X-Amz-Date=1"),
        ("?X-Amz-Security-Token=a%2F&x=1", "?X-Amz-Security-Token=***&x=1"),
        ("?X-Amz-Credential=AKIA%2F2025&x=1", "?X-Amz-Credential=***&x=1"),
        ("/tokeninfo?access_token=ya29.a", "/tokeninfo?access_token=***"),
        ("Authorization: AWS4 Credential=a, Signature=b\nx", "Authorization: ***\nx"),
        ("{'Authorization': 'Bearer abc', 'x': 1}", "{'Authorization': '***', 'x': 1}"),
        ("(b'Bearer ya29.A0-_')", "(b'Bearer ***')"),
        (f"Basic {BASIC} x", "Basic *** x"),
        ("sftp://user:hunter2@host/x", "sftp://user:***@host/x"),
        ("http://:hunter2@proxy", "http://:***@proxy"),
        ("aws_secret_access_key = aB/0+ x", "aws_secret_access_key = *** x"),
        ("BasicAuth(login='u', password='hun ter2')", "BasicAuth(login='u', password='***')"),
        ('{"client_secret": "a\\"b", "x": "y"}', '{"client_secret": \'***\', "x": "y"}'),
        (f"key {PEM} end", "key *** end"),
        (PEM[:50], "***"),
        (json.dumps(PEM), '"***"'),
    ],
)
def test_unknown_secrets_are_redacted_by_their_form(text: str, expected: str) -> None:
    """Secrets that were not remembered are redacted by their form, and only once."""
    with remembering({}):
        assert redact(text) == expected
        assert redact(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "PermissionError: The AWS Access Key Id you provided does not exist in our records",
        "Could not connect to the endpoint URL: http://127.0.0.1:9000/bucket/key",
        "TypeError: __init__() got an unexpected keyword argument 'password'",
        "Server requires Basic authentication, no Bearer token given",
        "git://user@host:22/x and s3://bucket:x, mail a@b",
        "design=3 max_tokens=5 key=7",
    ],
)
def test_ordinary_messages_stay_readable(text: str) -> None:
    """Text that only mentions secrets is unchanged."""
    with remembering({"secret": "hunter2"}):
        assert redact(text) == text


@pytest.mark.parametrize("cause", [OSError, TypeError, PermissionError, ValueError])
def test_errors_carry_no_secret_of_their_cause(cause: type[Exception]) -> None:
    """The message of a translated error has no secret, whatever the filesystem's message says."""
    with remembering({"secret": VALUE}):
        said = cause(f"refused {VALUE}\nand https://h/?sig=abc%2Fdef")
        error = translate(said, "cannot write", "s3://bucket/x")
    assert "refused *** and https://h/?sig=***" in str(error)


def traceback_of(uri: str, options: Mapping[str, Any], stall_timeout: float = IMPATIENT) -> str:
    with pytest.raises(FsspillError) as caught, cleanup_limit(stall_timeout):
        ExternalStorage(uri, storage_options=options, stall_timeout=stall_timeout).check()
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("package", "uri", "options"),
    [
        ("s3fs", "s3://b/x", {"key": "a", "secret": VALUE, "endpoint_url": "http://127.0.0.1:9"}),
        ("s3fs", "s3://b/x", {"key": "a", "secret": VALUE, "nonsense": 1}),
        (
            "s3fs",
            "s3://b/x",
            {"key": "a", "client_kwargs": {"aws_secret_access_key": VALUE, "x": 1}},
        ),
        ("adlfs", "abfs://c/x", {"account_name": "a", "connection_string": f"AccountKey={VALUE}"}),
        ("adlfs", "abfs://c/x", {"account_name": "a", "credential": VALUE}),
        (
            "s3fs",
            "s3://b/x",
            {
                "key": "a",
                "secret": "b",
                "endpoint_url": "http://127.0.0.1:9",
                "config_kwargs": {"proxies": {"http": f"http://u:{quote(VALUE, '')}@127.0.0.1:9"}},
            },
        ),
        (
            "adlfs",
            "abfs://c/x",
            {"connection_string": f"BlobEndpoint=http://127.0.0.1:9/a;SharedAccessSignature={SAS}"},
        ),
        ("gcsfs", "gs://b/x", {"token": {"refresh_token": VALUE, "client_secret": VALUE}}),
        ("paramiko", "sftp://u@127.0.0.1/x", {"port": 9, "password": VALUE}),
    ],
)
def test_traceback_shows_no_secret(package: str, uri: str, options: Mapping[str, Any]) -> None:
    """Neither the error nor its causes show a secret of the options."""
    pytest.importorskip(package)
    shown = traceback_of(uri, options)
    assert "cannot" in shown
    assert VALUE not in shown
    assert quote(VALUE, "") not in shown


def test_traceback_of_refused_credentials_shows_no_secret(checking_server: S3Server) -> None:
    """The server's refusal names the operation, not the secret that was wrong."""
    checking_server.check_credentials()
    options = {"key": "AKIA", "secret": VALUE, "endpoint_url": checking_server.endpoint_url}
    shown = traceback_of("s3://bucket/x", options, PATIENT)
    assert "StoragePermissionError" in shown
    assert VALUE not in shown
