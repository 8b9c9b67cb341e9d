"""The side that faces Ray, without a cluster."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from ray._private import external_storage as rays

import fsspill
from fsspill import ConfigError
from fsspill.ray.core_worker import CoreWorkerStore
from fsspill.ray.head import validate_external_storage
from fsspill.ray.io_worker import FailedStorage, IOWorkerStorage
from fsspill.testing.s3_server import S3Server


def test_the_hook_gives_ray_our_storage() -> None:
    """Ray's own function returns it, and Ray's own module-level functions act on it."""
    config = {"type": "fsspec", "params": {"uri": "s3://bucket/x"}}
    storage = rays.setup_external_storage(config, "node1", "session1")
    assert type(storage) is IOWorkerStorage
    assert rays._external_storage is storage
    assert rays.spill_objects([], []) == []
    rays.reset_external_storage()


def test_ray_keeps_its_own_types(tmp_path: Any) -> None:
    """Other configurations go to Ray as before."""
    config = {"type": "filesystem", "params": {"directory_path": str(tmp_path)}}
    storage = rays.setup_external_storage(config, "node1", "session1")
    assert type(storage) is rays.FileSystemStorage
    rays.reset_external_storage()


def test_an_io_worker_asks_no_network_and_never_raises(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Setup makes no request. What is wrong is said once a minute; only a restore raises it."""
    seen = len(s3_server.requests())
    config = {"type": "fsspec", "params": {"uri": "s3://no-such-bucket"}}
    assert type(rays.setup_external_storage(config, "n", "s")) is IOWorkerStorage
    assert len(s3_server.requests()) == seen

    config = {"type": "fsspec", "params": {"uri": "nonsense://x"}}
    storage = rays.setup_external_storage(config, "n", "s")
    assert type(storage) is FailedStorage
    for _ in range(2):
        assert rays.spill_objects([b"x"], [b""]) == []
        with pytest.raises(ConfigError, match="knows no protocol"):
            rays.restore_spilled_objects([b"x"], [b"u"])
        rays.delete_spilled_objects([b"u"])
    assert caplog.text.count("This node cannot") == 1
    storage.destroy_external_storage()
    rays.reset_external_storage()


def head(uri: str) -> Any:
    """Return what validation needs of the head's Node, and Ray's own method would set."""
    config = json.dumps({"type": "fsspec", "params": {"uri": uri}})
    params = SimpleNamespace(_system_config={})
    return SimpleNamespace(
        _config={}, _ray_params=params, _session_name="session1", _object_spilling_config=config
    )


@pytest.mark.parametrize("local", [True, False])
def test_validation_tells_ray_whether_files_are_local_to_a_node(
    local: bool, s3_bucket: str, tmp_path: Path
) -> None:
    """Both places of the flag are set, and the raylet learns which disk to watch."""
    uri = f"file://{tmp_path}" if local else f"s3://{s3_bucket}"
    node = head(uri)
    validate_external_storage(node, lambda node: None)
    assert node._config["is_external_storage_type_fs"] is local
    assert node._ray_params._system_config["is_external_storage_type_fs"] is local
    params = json.loads(node._object_spilling_config)["params"]
    assert params.get("directory_path") == ([uri[len("file://") :]] if local else None)
    # What Ray hands on to the IO workers is a configuration that they accept.
    config = json.loads(node._object_spilling_config)
    assert type(rays.setup_external_storage(config, "n", "s")) is IOWorkerStorage
    rays.reset_external_storage()


def test_validation_makes_three_requests(s3_server: S3Server, s3_bucket: str) -> None:
    """With what Ray does after it: set up with a random node id, and destroy."""
    node = head("s3://bucket/x")
    seen = len(s3_server.requests())

    def rays_part(node: Any) -> None:
        config = json.loads(node._object_spilling_config)
        rays.setup_external_storage(config, "random", "session1").destroy_external_storage()

    validate_external_storage(node, rays_part)
    methods = [request.method for request in s3_server.requests()[seen:]]
    assert methods == ["PUT", "GET", "DELETE"]
    rays.reset_external_storage()


def test_validation_is_left_out_where_spilling_is_off() -> None:
    """Nothing is asked of the storage of a cluster that does not spill."""
    node = head("s3://no-such-bucket")
    node._config["automatic_object_spilling_enabled"] = False
    validate_external_storage(node, lambda node: None)


class CoreWorker:
    """Fills objects as Ray's core worker does."""

    def put_file_like_object(
        self, metadata: bytes, size: int, file_like: Any, ref: Any, owner: bytes
    ) -> None:
        view = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            filled += file_like.readinto(view[filled:])


def test_an_error_before_the_object_was_created_passes_through() -> None:
    """Ray tries again by itself."""
    broken = SimpleNamespace(put_file_like_object=lambda *a: 1 / 0)
    store = CoreWorkerStore(worker=lambda: SimpleNamespace(core_worker=broken))
    with pytest.raises(ZeroDivisionError):
        store.put_file_like_object(b"", 1, io.BytesIO(b"x"), b"r", b"")


def test_an_object_that_cannot_be_completed_ends_the_process() -> None:
    """Ray would keep it unsealed, and ray.get wait for ever; the end of the worker frees it."""
    text = """
        from types import SimpleNamespace
        from fsspill.ray.core_worker import CoreWorkerStore
        from tests.ray.test_head import CoreWorker

        class Broken:
            def readinto(self, buffer):
                raise OSError("the storage went away")

        worker = SimpleNamespace(core_worker=CoreWorker())
        store = CoreWorkerStore(lambda error: print(error, flush=True), lambda: worker)
        store.put_file_like_object(b"", 1, Broken(), b"r", b"")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "ending this IO worker" in ended.stderr
    assert "the storage went away" in ended.stderr
    assert ended.stdout == "the storage went away\n"


def test_the_signatures_are_rays() -> None:
    """What Ray calls by position has Ray's parameters in Ray's order."""
    for name in ("spill_objects", "restore_spilled_objects", "delete_spilled_objects"):
        theirs = getattr(rays.ExternalStorage, name).__code__
        ours = getattr(fsspill.ExternalStorage, name).__code__
        count = theirs.co_argcount
        assert ours.co_varnames[:count] == theirs.co_varnames[:count]
