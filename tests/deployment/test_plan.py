"""Plans of deployments."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.deployment.plan import COPY_BYTES, COPY_DIRECTORY, make_plan

BUCKET = ["s3://bucket/spill"]


@pytest.mark.parametrize(
    ("options", "copies"),
    [
        ({}, (None, None)),
        ({"cache_dir": "/x"}, ("/x", COPY_BYTES)),
        ({"cache_dir": "/x", "cache_max_bytes": 10**9}, ("/x", 10**9)),
        ({"kubernetes": True}, (COPY_DIRECTORY, COPY_BYTES)),
        ({"kubernetes": True, "cache_max_bytes": 10**9}, (COPY_DIRECTORY, 10**9)),
        ({"kubernetes": True, "cache_max_bytes": 0}, (None, None)),
    ],
)
def test_local_copies(options: dict[str, Any], copies: tuple[str | None, int | None]) -> None:
    """By default in pods, which have a volume for them; elsewhere in a directory that is named."""
    settings = make_plan(BUCKET, **options).settings
    assert (settings.cache_dir, settings.cache_max_bytes) == copies


def test_directories_have_no_copies() -> None:
    """They are local, or mounted."""
    assert make_plan(["file:///x"], kubernetes=True).settings.cache_dir is None
    with pytest.raises(ConfigError, match="cannot use cache_dir"):
        make_plan(["file:///x"], cache_dir="/y")


@pytest.mark.parametrize(
    ("uris", "options", "message"),
    [
        (["s3:/bucket"], {}, r"Did you mean 's3://bucket'\?"),
        (["s3://u:password@bucket"], {}, r"found a password in the URI"),
        (["memory://x"], {}, r"expected storage that all processes share"),
        (["s3://x", "s3://x"], {}, r"expected each URI once"),
        (BUCKET, {"shared": True}, r"cannot use shared=True"),
        (BUCKET, {"cache_max_bytes": 10**9}, r"without cache_dir"),
        (["gs://x"], {"source": "secret"}, r"expected role"),
    ],
)
def test_what_cannot_work_is_refused(
    uris: list[str], options: dict[str, Any], message: str
) -> None:
    """As at Ray's start, without the password."""
    with pytest.raises(ConfigError, match=message) as caught:
        make_plan(uris, **options)
    assert "password@" not in str(caught.value)


def test_variables_of_several_storages() -> None:
    """A list of URIs is JSON, as the hook reads it; roles and secrets are those of all."""
    plan = make_plan(["s3://one", "abfs://two@account"])
    variables = {each.name: each.value for each in plan.environment()}
    assert variables["FSSPILL_URI"] == '["s3://one", "abfs://two@account"]'
    assert [each.annotation[0] for each in plan.roles] == ["eks.amazonaws.com/role-arn"]
    assert [each.secret_variables[0] for each in plan.secrets] == ["AZURE_STORAGE_ACCOUNT_NAME"]
