"""Removal of all that a node has under one URI."""

from __future__ import annotations

import fsspec
import pytest

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
)
from tests.at_rest import open_uploads


@pytest.fixture
def storage(s3_bucket: str, store: InMemoryObjectStore) -> ExternalStorage:
    return ExternalStorage(f"s3://{s3_bucket}/prefix", object_store=store)


def test_destroy_aborts_incomplete_uploads_of_its_node(
    storage: ExternalStorage, s3_bucket: str
) -> None:
    """Their ids were lost with an answer or a worker; uploads of others stay."""
    node = storage.files.locations[0].node_directory.removeprefix(f"s3://{s3_bucket}/")
    fs = fsspec.filesystem("s3")
    for key in (f"{node}/file", f"{node}2/file", "prefix/of-others"):
        fs.call_s3("create_multipart_upload", Bucket=s3_bucket, Key=key)
    storage.destroy_external_storage()
    assert open_uploads(s3_bucket) == [
        "prefix/of-others",
        f"{node}2/file",
    ]
