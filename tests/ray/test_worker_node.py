"""Worker nodes that name a spill directory of their own, without a cluster."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.ray.worker_node import check_worker_node


def uri(uri: str | list[str]) -> dict[str, Any]:
    return {"type": "fsspec", "params": {"uri": uri}}


def directory(path: str) -> dict[str, Any]:
    return {"type": "filesystem", "params": {"directory_path": path}}


def check(own: dict[str, Any], cluster: dict[str, Any] | None, patch: pytest.MonkeyPatch) -> None:
    system = {} if cluster is None else {"object_spilling_config": json.dumps(cluster)}
    patch.setattr("fsspill.ray.worker_node._system_config", lambda node: system)
    check_worker_node(
        SimpleNamespace(
            _object_spilling_config=json.dumps(own),
            _ray_params=SimpleNamespace(object_spilling_directory="named"),
        )
    )


@pytest.mark.parametrize(
    ("own", "cluster"),
    [
        (uri("s3://b/x"), uri("s3://b/x/")),
        (uri(["s3://b/x", "s3://b/y"]), uri(["s3://b/x/", "s3://b/y"])),
        (directory("/a"), directory("/b")),
        (directory("/a"), None),
    ],
)
def test_the_directory_of_the_cluster_is_accepted(
    own: dict[str, Any], cluster: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same URIs, slash or not, and anything between Ray's own directories."""
    check(own, cluster, monkeypatch)


@pytest.mark.parametrize(
    ("own", "cluster", "shown"),
    [
        (uri("s3://b/x"), uri("s3://b/y"), ("s3://b/x", "s3://b/y")),
        (uri("s3://b/x"), directory("/a"), ("s3://b/x", "/a")),
        (directory("/a"), uri("s3://b/x"), ("/a", "s3://b/x")),
        (uri("s3://b/x"), None, ("s3://b/x", "its default")),
    ],
)
def test_another_directory_is_refused(
    own: dict[str, Any],
    cluster: dict[str, Any] | None,
    shown: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names both, and says what to do."""
    with pytest.raises(ConfigError) as caught:
        check(own, cluster, monkeypatch)
    message = str(caught.value)
    assert f"directory {shown[0]}: " in message
    assert f"spills to {shown[1]}, " in message
    assert "Leave out --object-spilling-directory" in message


def test_a_ray_that_tells_no_configuration_is_not_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node starts where the comparison fails, which is fsspill's and not Ray's; the log says it.

    Its Node lacks the address of the head.
    """
    check_worker_node(SimpleNamespace(_object_spilling_config=json.dumps(directory("/a"))))
    assert "could not compare the spill directory" in caplog.text
    assert "gcs_address" in caplog.text


def node(own: dict[str, Any], named: str | None = None) -> SimpleNamespace:
    """Return a worker node that names a directory or none."""
    params = SimpleNamespace(object_spilling_directory=named)
    return SimpleNamespace(_object_spilling_config=json.dumps(own), _ray_params=params)


def test_a_node_that_differs_in_what_all_have_in_common_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that names no directory. Where the cluster spills to one, anything goes."""
    monkeypatch.setenv("FSSPILL_PREFIX", "mine")
    systems = [uri("s3://b/x"), directory("/a")]
    for cluster in systems:
        system = {"object_spilling_config": json.dumps(cluster)}
        monkeypatch.setattr("fsspill.ray.worker_node._system_config", lambda node, s=system: s)
        if cluster["type"] == "fsspec":
            with pytest.raises(ConfigError, match=r"FSSPILL_PREFIX='mine': the head .* prefix=''"):
                check_worker_node(node(directory("/default")))
        else:
            check_worker_node(node(directory("/default")))
    monkeypatch.delenv("FSSPILL_PREFIX")
    system = {"object_spilling_config": json.dumps(uri("s3://b/x"))}
    monkeypatch.setattr("fsspill.ray.worker_node._system_config", lambda node: system)
    check_worker_node(node(directory("/default")))
