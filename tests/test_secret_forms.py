"""The table of forms: every secret in it is redacted, and nothing else."""

from __future__ import annotations

from unittest import mock

import pytest

from fsspill import secrets
from fsspill.secrets import redact, remember, remember_environment
from tests.secret_forms import ENCODED_FORMS, HARMLESS_FORMS, KNOWN, SECRET_FORMS, SecretForm


def by_name(form: SecretForm) -> str:
    return form.name


@pytest.mark.parametrize("form", SECRET_FORMS, ids=by_name)
def test_secrets_are_redacted_by_their_form(form: SecretForm) -> None:
    shown = redact(form.text)
    assert not [each for each in form.secrets if each in shown], shown
    assert not [each for each in form.kept if each not in shown], shown


@pytest.mark.parametrize("form", SECRET_FORMS, ids=by_name)
def test_redacting_twice_changes_nothing(form: SecretForm) -> None:
    """Messages pass through several hands."""
    assert redact(redact(form.text)) == redact(form.text)


@pytest.mark.parametrize("text", HARMLESS_FORMS)
def test_texts_without_a_secret_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("encoding", ENCODED_FORMS)
def test_known_secrets_are_redacted_in_every_encoding(encoding: str) -> None:
    """By value: nothing in these texts tells that they hold a secret."""
    with mock.patch.object(secrets, "_remembered", set()):
        remember({"password": KNOWN})
        shown = redact(f"before {ENCODED_FORMS[encoding]} after")
    assert "***" in shown
    left = shown.replace("***", "").removeprefix("before").removesuffix("after")
    assert len(left) <= LEFT_OF_AN_ENCODING, shown


LEFT_OF_AN_ENCODING = 24
"""Characters that may be left: quotes, a word before the value, what surrounds it in base64."""


@pytest.mark.parametrize("value", ["http://u:p%40ss%2Fword@proxy", "AccountKey=p@ss/word;A=b"])
def test_secret_within_a_value_is_known_by_itself(value: str) -> None:
    """A message need not show the whole URL or connection string, nor its encoding."""
    with mock.patch.object(secrets, "_remembered", set()):
        remember({"anything": value})
        assert redact("refused: p@ss/word.") == "refused: ***."


def test_secrets_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of providers and passwords of proxies, and no other variable."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2/hunter2")
    monkeypatch.setenv("all_proxy", "socks5h://u:hunter3%40x@proxy")
    monkeypatch.setenv("AZURE_CLIENT_ID", "some-client")
    monkeypatch.setenv("SOME_TOKEN", "some-thing")
    with mock.patch.object(secrets, "_remembered", set()):
        remember_environment()
        assert redact("refused: hunter2/hunter2, hunter3@x.") == "refused: ***, ***."
        assert redact("some-client some-thing") == "some-client some-thing"
