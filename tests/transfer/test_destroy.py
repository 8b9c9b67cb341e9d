"""Removal of all that a node has under one URI."""

from __future__ import annotations

import fsspec
import pytest

from fsspill import ExternalStorage, Settings
from fsspill.storage.client_pool import open_client
from fsspill.storage.layout import HEAD, SpillLocation
from fsspill.transfer.destroy import destroy
from tests.at_rest import open_uploads


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


@pytest.mark.parametrize(
    "other", [None, "ray_spilled_objects_other/file", "fsspill_heartbeats/other"]
)
def test_the_heartbeat_of_the_head_goes_with_the_last_file_of_its_session(
    memory_uri: str, other: str | None
) -> None:
    """It stays while another node has a file or a heartbeat, and so do those."""
    client = open_client(memory_uri, {})
    location = SpillLocation(memory_uri, prefix="", session_name="s", node_id="n", shared=False)
    own = [location.new_file(1, 3), location.heartbeat_file("n")]
    head = client.path(location.heartbeat_file(HEAD))
    kept = [head, f"{client.root}/s/{other}"] if other else []
    for path in [head, *map(client.path, own), *kept]:
        client.run(client.put, path, b"abc")
    client.run(destroy, client, location, Settings(memory_uri))
    assert sorted(client.run(client.find, client.root)) == sorted(kept)
