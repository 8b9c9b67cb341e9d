"""The start of Ray's head, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from ray._private import external_storage as rays

from fsspill import ConfigError, Settings
from fsspill.ray.head import on_head_started, validate_external_storage
from fsspill.ray.io_worker import IOWorkerStorage
from fsspill.testing.s3_server import S3Server


def head(uri: str, **params: Any) -> Any:
    """Return the attributes of the head's Node that are used, as Ray's own method sets them."""
    config = json.dumps({"type": "fsspec", "params": {"uri": uri, **params}})
    return SimpleNamespace(
        head=True,
        _config={},
        _ray_params=SimpleNamespace(_system_config={}),
        _session_name="session1",
        _object_spilling_config=config,
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
    # The configuration that Ray hands on to the IO workers is one that they accept.
    config = json.loads(node._object_spilling_config)
    assert type(rays.setup_external_storage(config, "n", "s")) is IOWorkerStorage
    rays.reset_external_storage()


@pytest.mark.parametrize("durable", [True, False])
def test_durable_objects_are_spilled_at_once(durable: bool, s3_bucket: str) -> None:
    """By a setting of Ray that reaches all nodes."""
    node = head(f"s3://{s3_bucket}", durable=durable, file_size=1000)
    validate_external_storage(node, lambda node: None)
    for config in (node._config, node._ray_params._system_config):
        assert config.get("object_spilling_threshold") == (0.0 if durable else None)
        assert config.get("min_spilling_size") == (1000 if durable else None)


def test_a_spilling_threshold_beside_durable_is_a_contradiction(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of both would be ignored."""
    monkeypatch.setenv("RAY_object_spilling_threshold", "0.9")
    with pytest.raises(ConfigError, match="object_spilling_threshold: expected only one"):
        validate_external_storage(head(f"s3://{s3_bucket}", durable=True), lambda node: None)


THRESHOLD = "local_fs_capacity_threshold"


@pytest.mark.parametrize("shared", [True, False])
def test_the_disk_of_a_node_counts_only_where_it_takes_the_files(
    shared: bool, s3_bucket: str, tmp_path: Path
) -> None:
    """Ray's guard of that disk is off for buckets and shared directories."""
    for node, threshold in (
        (head(f"s3://{s3_bucket}"), 1),
        (head(f"file://{tmp_path}", shared=shared), 1 if shared else None),
    ):
        validate_external_storage(node, lambda node: None)
        assert node._config.get(THRESHOLD) == threshold
        assert node._ray_params._system_config.get(THRESHOLD) == threshold


@pytest.mark.parametrize("place", ["_system_config", "environment"])
def test_a_threshold_that_the_user_has_set_stays(
    place: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is a parameter of ray.init or a variable of the environment."""
    node = head(f"s3://{s3_bucket}")
    if place == "environment":
        monkeypatch.setenv(f"RAY_{THRESHOLD}", "0.5")
    else:
        node._config[THRESHOLD] = node._ray_params._system_config[THRESHOLD] = 0.5
    validate_external_storage(node, lambda node: None)
    found = {node._config.get(THRESHOLD), node._ray_params._system_config.get(THRESHOLD)}
    assert found == ({None} if place == "environment" else {0.5})


def test_validation_makes_four_requests(s3_server: S3Server, s3_bucket: str) -> None:
    """With what Ray does after it: set up with a random node id, and destroy."""
    node = head("s3://bucket/x")
    seen = len(s3_server.requests())

    def rays_part(node: Any) -> None:
        config = json.loads(node._object_spilling_config)
        rays.setup_external_storage(config, "random", "session1").destroy_external_storage()

    validate_external_storage(node, rays_part)
    methods = [request.method for request in s3_server.requests()[seen:]]
    assert methods == ["PUT", "GET", "GET", "DELETE"]
    rays.reset_external_storage()


def test_validation_is_skipped_where_spilling_is_off() -> None:
    """The storage of a cluster that does not spill gets no request."""
    node = head("s3://no-such-bucket")
    node._config["automatic_object_spilling_enabled"] = False
    validate_external_storage(node, lambda node: None)


@pytest.mark.parametrize(
    ("uri", "params", "message"),
    [
        ("memory://x", {}, "storage that all processes share"),
        ("s3://b", {"storage_options": {"secret": "hunter2"}}, "with secrets"),
    ],
)
def test_validation_rejects_what_cannot_work_in_a_cluster(
    uri: str, params: dict[str, Any], message: str
) -> None:
    """Storage of one process, and secrets that Ray would show; Ray's own method is not called."""
    with pytest.raises(ConfigError, match=message):
        validate_external_storage(head(uri, **params), lambda node: pytest.fail("called"))


def started(
    node: Any, monkeypatch: pytest.MonkeyPatch, *, watch: bool = False
) -> list[tuple[Any, ...]]:
    """Return the arguments of the heartbeat processes that a started head starts.

    With `watch` also those of the processes that watch nodes.
    """
    calls: list[tuple[Any, ...]] = []
    watches = calls if watch else []
    monkeypatch.setattr("fsspill.ray.head.start_head_process", lambda *args: calls.append(args))
    monkeypatch.setattr("fsspill.ray.head.announce", lambda node: None)
    monkeypatch.setattr("fsspill.ray.head.start_node_watch", lambda *args: watches.append(args))
    gcs = SimpleNamespace(process=SimpleNamespace(pid=17))
    node.all_processes = {"gcs_server": [gcs]}
    node.get_logs_dir_path = lambda: "/logs"
    node.gcs_address = "host:1"
    on_head_started(node)
    return calls


def test_a_head_that_has_started_gets_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gets the session, Ray's head process and a log among Ray's own."""
    assert started(head("s3://bucket/x"), monkeypatch) == [
        (Settings("s3://bucket/x"), "session1", 17, "/logs/fsspill_heartbeat.log")
    ]


def test_no_heartbeat_of_a_session_without_shared_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for files on the nodes' own disks, and not where spilling is off."""
    assert started(head(f"file://{tmp_path}"), monkeypatch) == []
    node = head("s3://bucket/x")
    node._config["automatic_object_spilling_enabled"] = False
    assert started(node, monkeypatch) == []


def test_a_head_that_has_started_watches_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where files are on the nodes' own disks, which takes fsspill on each of them."""
    uri = f"file://{tmp_path}"
    assert started(head(uri), monkeypatch, watch=True) == [
        (Settings(uri), "host:1", 17, "/logs/fsspill_nodes.log")
    ]


def test_a_heartbeat_that_cannot_start_does_not_stop_ray(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, with the consequence for clean-up."""
    node = head("s3://bucket/x")
    node.all_processes = {}
    on_head_started(node)
    message, untold = [record.getMessage() for record in caplog.records]
    assert untold.startswith("drivers are not told of nodes without fsspill: ")
    assert message.startswith(
        "heartbeat not started: fsspill clean will leave this session alone: "
    )


def test_the_head_distributes_what_its_environment_sets_for_all(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each node may have for itself is not among it."""
    monkeypatch.setenv("FSSPILL_PREFIX", "below")
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "1")
    node = head(f"s3://{s3_bucket}")
    validate_external_storage(node, lambda node: None)
    params = json.loads(node._object_spilling_config)["params"]
    assert params == {"uri": f"s3://{s3_bucket}", "prefix": "below"}


def test_a_process_of_ray_takes_what_its_nodes_environment_sets(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters per node reach the IO worker; those per cluster come from the head."""
    monkeypatch.setenv("FSSPILL_PREFIX", "below")
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "1")
    config = {"type": "fsspec", "params": {"uri": f"s3://{s3_bucket}"}}
    storage = rays.setup_external_storage(config, "n", "s")
    assert storage._storage.settings == Settings(f"s3://{s3_bucket}", file_size=1)
    rays.reset_external_storage()
