"""Credentials of pods and nodes: the places where each kind of storage finds them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fsspill.errors import ConfigError
from fsspill.secret_forms import has_password
from fsspill.secrets import redact, remember_environment
from fsspill.storage.protocols import has_other_provider, protocol_of, traits_of

__all__ = ["Credentials", "Source", "choose_source", "credentials_of", "plain_variables"]

Source = Literal["role", "secret", "none"]
"""The place of the credentials of pods: a role of their service account, or a secret."""


@dataclass(frozen=True)
class Credentials:
    """The credentials for one kind of storage.

    Attributes
    ----------
    sources : tuple of str
        Sources that work, the usual one first.
    secret_variables : tuple of str
        Environment variables that carry secrets.
    plain_variables : tuple of str
        Environment variables that carry none, and that every node needs if one has them.
    annotation : tuple of str
        Name and example of the annotation that gives a service account a role.
    remark : str
        Permissions, or another way.
    """

    sources: tuple[Source, ...]
    secret_variables: tuple[str, ...] = ()
    plain_variables: tuple[str, ...] = ()
    annotation: tuple[str, str] = ("", "")
    remark: str = ""


_BY_EXTRA = {
    "s3": Credentials(
        ("role", "secret"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"),
        ("eks.amazonaws.com/role-arn", "arn:aws:iam::123456789012:role/fsspill"),
        "It needs s3:PutObject, s3:GetObject, s3:DeleteObject, s3:ListBucket, "
        "s3:AbortMultipartUpload and s3:ListBucketMultipartUploads.",
    ),
    "gcs": Credentials(
        ("role",),
        annotation=(
            "iam.gke.io/gcp-service-account",
            "fsspill@my-project.iam.gserviceaccount.com",
        ),
        remark="It needs the role storage.objectUser on the bucket.",
    ),
    "azure": Credentials(("secret",), ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")),
}
_NONE = Credentials(("none",))


def credentials_of(uri: str) -> Credentials:
    """Return the credentials for the storage of a URI."""
    traits = traits_of(uri)
    if traits.is_local:
        return _NONE
    known = _BY_EXTRA.get(traits.extra or "")
    if known:
        return known
    variable = f"FSSPEC_{protocol_of(uri).upper()}"
    return Credentials(
        ("secret",),
        (f"{variable}_PASSWORD",),
        remark=f"Other options of the filesystem go into {variable}_<OPTION>.",
    )


def choose_source(uri: str, wanted: Source | None) -> Source:
    """Return the source of credentials for a URI.

    Parameters
    ----------
    uri : str
        The URI.
    wanted : str, optional
        The source that the user wants; the usual one if not given.

    Raises
    ------
    ConfigError
        The storage has no such source.
    """
    sources = credentials_of(uri).sources
    if wanted is None:
        # A store with an API like that of S3 knows nothing of AWS's roles.
        return "secret" if has_other_provider(uri) else sources[0]
    if wanted not in sources:
        raise ConfigError(
            f"cannot take the credentials for {uri} from a {wanted}: expected "
            f"{' or '.join(sources)}."
        )
    return wanted


def plain_variables(uri: str) -> Mapping[str, str | None]:
    """Return the variables of this environment that other nodes need too; None is a secret."""
    remember_environment()
    found = {name: os.environ.get(name, "") for name in credentials_of(uri).plain_variables}
    return {name: None if _is_secret(value) else value for name, value in found.items() if value}


def _is_secret(value: str) -> bool:
    return has_password(value) or redact(value) != value
