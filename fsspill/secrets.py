"""Secrets among a filesystem's options and in its messages: found, and kept from being shown.

The rule for options is in `find_secrets`. `redact` is for everything that a message, a log or an
error may carry; it knows the secrets that `remember` was given, and the usual forms of others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from fsspill.secret_forms import SHOWN, encodings, hidden_parts, redact_forms

__all__ = ["find_secrets", "redact", "redact_options", "remember", "remember_environment"]

_SHORTEST = 4
"""Characters of a secret below which it is not remembered: it would occur in any text."""

_SECRET_NAME = re.compile(
    r"""
    (   secret | token | password | passwd | passphrase | credentials? | authorization
    |   (account|access|api|master|private|secret|shared)_?key
    |   connection_?string
    |   (^|_) ( pass | pwd | pkey | auth | cookies? | sas )
    |   (^|_) (?<!public_) key
    )
    ( _ (base64|data|json|pem|value) )? $
    """,
    re.VERBOSE,
)

_WAYS_TO_A_TOKEN = frozenset({"anon", "browser", "cache", "cloud", "google_default"})
_NAME_OF_TOKEN = re.compile(r"(token|credentials?)$")
_PATH = re.compile(r"[/~.][^\s{]*|[^\s{]+\.json")

_VARIABLE = re.compile(r"(aws|azure|fsspec|gcs|google)_\w+|\w+_proxy", re.IGNORECASE)
"""Environment variables in which filesystems look for credentials, and for proxies."""

_SHORTEST_OF_VARIABLE = 8
"""Likewise for a variable, which may have a value made up for a test."""

_remembered: set[str] = set()


def find_secrets(storage_options: Mapping[Any, Any], key_is_an_id: bool = False) -> list[str]:
    """Return the names of the options that carry a secret.

    Parameters
    ----------
    storage_options : mapping
        Options in fsspec's names. Mappings and lists in it are looked through.
    key_is_an_id : bool, optional
        True if the option ``key`` of the protocol is the id of an access key, which is no secret.

    Returns
    -------
    list of str
        The names in the order of the options, dotted where they are nested, as in
        ``client_kwargs.aws_secret_access_key``.

    Notes
    -----
    The end of a name says what its value is, so one rule does for all filesystems. Upper case,
    lower case, ``camelCase``, ``-`` and ``_`` make no difference. An option carries a secret if

    * its name ends with ``secret``, ``token``, ``password``, ``passwd``, ``passphrase``,
      ``credential(s)``, ``authorization`` or ``connection_string``; with the word ``pass``,
      ``pwd``, ``pkey``, ``auth``, ``cookie(s)`` or ``sas``; with the word ``key``, unless it is a
      ``public_key``, or ``key`` alone where that is the id of an access key; with one of all
      these and ``_base64``, ``_data``, ``_json``, ``_pem`` or ``_value``;
    * or its value, whatever its name, is a string that has the form of a secret (see `redact`),
      such as a URL with a password or a connection string.

    No secret are: what is falsy, or True; the words ``anon``, ``browser``, ``cache``, ``cloud`` and
    ``google_default`` and the path of a file (it begins with ``/``, ``~`` or ``.``, or ends with
    ``.json``) where a token or credential is expected. Of a mapping with a secret name, the
    entries that carry a secret are named; the mapping itself if there are none.
    """
    return [name for name, _ in _secrets(storage_options, key_is_an_id)]


def remember(storage_options: Mapping[Any, Any], key_is_an_id: bool = False) -> None:
    """Add the secrets of these options to those that `redact` replaces in this process.

    Parameters
    ----------
    storage_options : mapping
        As in `find_secrets`.
    key_is_an_id : bool, optional
        As in `find_secrets`.

    Notes
    -----
    A secret of fewer than 4 characters is not remembered; a run of white space counts as one, and
    that around the secret not at all. Nothing is ever forgotten: a connection may outlive the
    options that it was made with.
    """
    for _, value in _secrets(storage_options, key_is_an_id):
        for text in _leaves(value):
            for secret in (text, *_parts(text)):
                plain = {" ".join(form.split()) for form in encodings(secret)}
                _remembered.update(form for form in plain if len(form) >= _SHORTEST)


def remember_environment() -> None:
    """Remember the secrets in the environment variables of cloud providers, fsspec and proxies."""
    found = {name: value for name, value in os.environ.items() if _VARIABLE.fullmatch(name)}
    remember({name: each for name, each in found.items() if len(each) >= _SHORTEST_OF_VARIABLE})


def _parts(text: str) -> Iterator[str]:
    """Yield the secrets within a value: the password of a URL, the key of a connection string."""
    for part in hidden_parts(text):
        if len(part) >= _SHORTEST:
            yield from (part, unquote(part))


def redact_options(
    storage_options: Mapping[Any, Any], key_is_an_id: bool = False
) -> dict[Any, Any]:
    """Return a copy of options with ``***`` in the place of the secrets of `find_secrets`."""
    return {
        name: _redact_option(name, value, key_is_an_id) for name, value in storage_options.items()
    }


def _redact_option(name: Any, value: Any, key_is_an_id: bool) -> Any:
    if _secrets_within(value, key_is_an_id):
        if isinstance(value, Mapping):
            return redact_options(value, key_is_an_id)
        return list(redact_options(dict(enumerate(value)), key_is_an_id).values())
    return SHOWN if any(_secrets({name: value}, key_is_an_id)) else value


def redact(text: str) -> str:
    """Return `text` with ``***`` in the place of every secret.

    Parameters
    ----------
    text : str
        Anything: a message, a traceback, a URL.

    Returns
    -------
    str
        Free of every secret that `remember` keeps, as it is, percent-encoded, in JSON's and in
        Python's notation, whatever white space takes the place of that in it. Also replaced, as
        far as they have their usual form: values of ``AccountKey=``, ``SharedAccessSignature=``,
        ``password=`` and other names of secrets, signatures and credentials in URLs, what follows
        ``Authorization:``, ``Bearer`` and ``Basic``, passwords in URLs, private keys.
    """
    # Remembered ones first: a form may match a part of one. Again after the forms, whose
    # replacements may have joined the parts of another one.
    return _redact_remembered(redact_forms(_redact_remembered(text)))


def _redact_remembered(text: str) -> str:
    if not _remembered:
        return text
    pattern = _pattern(frozenset(_remembered.copy()))
    # Again until none is left: with what surrounds them the asterisks may be a secret too. Each
    # turn makes the text shorter.
    while (shorter := pattern.sub(SHOWN, text)) != text:
        text = shorter
    return text


@lru_cache(maxsize=4)
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    # The longest first: a secret may contain another one.
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile("|".join(r"\s+".join(map(_escape, each.split())) for each in longest_first))


def _escape(text: str) -> str:
    """Return a pattern for a text; the digits of percent-encoding in upper or lower case."""
    return re.sub("%[0-9A-F]{2}", r"(?i:\g<0>)", re.escape(text))


def _secrets(options: Mapping[Any, Any], key_is_an_id: bool) -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        name = str(key)
        secret = _is_secret_name(name, key_is_an_id) and _may_be_secret(name, value)
        found = _secrets_within(value, key_is_an_id)
        if found:
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in found)
        elif secret or (isinstance(value, str) and _has_secret_form(value)):
            yield name, value


def _secrets_within(value: object, key_is_an_id: bool) -> list[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    return list(_secrets(value, key_is_an_id)) if isinstance(value, Mapping) else []


def _is_secret_name(name: str, key_is_an_id: bool) -> bool:
    if name == "key" and key_is_an_id:
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return bool(_SECRET_NAME.search(re.sub(r"[^a-z0-9]+", "_", words.lower())))


def _may_be_secret(name: str, value: object) -> bool:
    if isinstance(value, str) and _NAME_OF_TOKEN.search(name.lower()):
        return bool(value) and value not in _WAYS_TO_A_TOKEN and not _PATH.fullmatch(value)
    return bool(value) and value is not True


def _has_secret_form(text: str) -> bool:
    return redact_forms(text) != text


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts in a value that may occur in a message."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
