"""Users of the S3 server, once it checks credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from fsspill.testing.s3_server import S3Server
from tests.instances import forgotten

EVERYTHING = json.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
)
"""A policy with every right."""


class Key(NamedTuple):
    """An access key."""

    id: str
    secret: str


def add_user(iam: Any, name: str, policy: str | None = None) -> Key:
    """Create a user with the rights of a policy, or with none, and return a key."""
    iam.create_user(UserName=name)
    if policy:
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
    answer = iam.create_access_key(UserName=name)["AccessKey"]
    return Key(answer["AccessKeyId"], answer["SecretAccessKey"])


@contextmanager
def only_user(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, policy: str | None = None
) -> Iterator[S3Server]:
    """Make a server know one user, whose key is in the environment."""
    botocore = pytest.importorskip("botocore.session")
    iam = botocore.get_session().create_client("iam", region_name="us-east-1")
    key = add_user(iam, "user", policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    server.check_credentials()
    with forgotten("s3"):
        yield server
    iam.close()
