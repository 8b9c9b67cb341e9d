"""Parameters in the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fsspill import ConfigError, Settings
from fsspill.config import make_settings
from fsspill.environment import require_same_parameters, with_environment

URI = "s3://bucket/x"

GIVEN: Mapping[str, tuple[str, Any]] = {
    "storage_options": ('{"anon": false, "endpoint_url": "http://x"}', None),
    "prefix": ("123", "123"),
    "shared": ("True", True),
    "file_size": ("1048576", 2**20),
    "range_size": ("null", None),
    "max_requests_in_flight": ("8", 8),
    "max_bytes_in_flight": ("67108864", 64 * 2**20),
    "stall_timeout": ("7.5", 7.5),
    "digest": ("sha256", "sha256"),
    "compression": ("zstd", "zstd"),
    "engine": ("fsspec", "fsspec"),
    "policy": ("in_order", "in_order"),
    "min_free_bytes": ("1", 1),
    "max_bytes": ("4096", 4096),
    "cache_dir": ("/mnt/disk", "/mnt/disk"),
    "cache_max_bytes": ("1073741824", 2**30),
    "lost_after": ("0", 0),
    "durable": ("true", True),
    "allow_secrets": ("true", True),
}
"""A value of each parameter as a variable has it, and as `Settings` takes it, if not JSON's."""

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "cache_dir": {"cache_max_bytes": 2**30},
    "cache_max_bytes": {"cache_dir": "/mnt/disk"},
}
"""Parameters without which another one cannot be set."""

DEFAULTS = {parameter.name: parameter.default for parameter in fields(Settings)}


def configured(uri: str = URI, **params: Any) -> dict[str, Any]:
    """Return what the head and then a node make of a configuration."""
    config: Mapping[str, Any] = {"type": "fsspec", "params": {"uri": uri, **params}}
    for scope in ("cluster", "node"):
        config = with_environment(config, scope)
    return dict(config["params"])


@pytest.fixture(autouse=True)
def _none_of_the_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for parameter in fields(Settings):
            patch.delenv(f"FSSPILL_{parameter.name.upper()}", raising=False)
        yield


def test_every_parameter_is_tried() -> None:
    """A new one needs a row here."""
    assert {"uri", *GIVEN} == {parameter.name for parameter in fields(Settings)}


@pytest.mark.parametrize("name", GIVEN)
def test_every_parameter_may_be_set_in_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is that of the constructor; texts are not quoted."""
    text, value = GIVEN[name]
    expected = json.loads(text) if value is None else value
    uri = f"file://{tmp_path}" if name in ("shared", "min_free_bytes") else URI
    monkeypatch.setenv(f"FSSPILL_{name.upper()}", text)
    found = make_settings({"type": "fsspec", "params": configured(uri, **NEEDED.get(name, {}))})
    assert found == Settings(uri, **{name: expected, **NEEDED.get(name, {})})


@pytest.mark.parametrize("name", ["prefix", "file_size"])
def test_what_is_given_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has defaults."""
    monkeypatch.setenv(f"FSSPILL_{name.upper()}", GIVEN[name][0])
    given: Any = {"prefix": "given", "file_size": 5}[name]
    assert configured(**{name: given})[name] == given


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the environment of containers, whose templates leave variables empty."""
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "")
    assert configured() == {"uri": URI}


@pytest.mark.parametrize("scope", ["cluster", "node"])
def test_a_parameter_is_taken_where_it_belongs(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all nodes have in common is the head's to say, and only that is distributed."""
    for name, (text, _) in GIVEN.items():
        monkeypatch.setenv(f"FSSPILL_{name.upper()}", text)
    found = with_environment({"type": "fsspec", "params": {"uri": URI}}, scope)  # type: ignore[arg-type]
    scopes = {parameter.name: parameter.metadata["scope"] for parameter in fields(Settings)}
    assert set(found["params"]) - {"uri"} == {name for name in GIVEN if scopes[name] == scope}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FSSPILL_FILE_SIZE", "8 MiB", "cannot use FSSPILL_FILE_SIZE='8 MiB': expected an integer"),
        ("FSSPILL_STALL_TIMEOUT", "0", "FSSPILL_STALL_TIMEOUT=0: expected 1 or more"),
        ("FSSPILL_SHARED", "yes", "FSSPILL_SHARED='yes': expected True or False"),
        ("FSSPILL_STORAGE_OPTIONS", "key=x", "FSSPILL_STORAGE_OPTIONS of type str: expected a map"),
        ("FSSPILL_DIGEST", "md4", "FSSPILL_DIGEST='md4': expected one of"),
        ("FSSPILL_FILESIZE", "1", "Did you mean FSSPILL_FILE_SIZE"),
        ("FSSPILL_MAX_BYTE_IN_FLIGHT", "1", "Did you mean FSSPILL_MAX_BYTES_IN_FLIGHT"),
    ],
)
def test_a_variable_that_cannot_work_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable, not only the parameter."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        configured()


@pytest.mark.parametrize("name", ["FSSPILL_HOOK", "FSSPILL_BUCKET_OF_OURS"])
def test_other_variables_are_not_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is like no parameter may be anybody's."""
    monkeypatch.setenv(name, "1")
    assert configured() == {"uri": URI}


@pytest.mark.parametrize("config", [{}, {"type": "filesystem", "params": {"directory_path": "/"}}])
def test_rays_own_types_have_no_variables(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have other parameters."""
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "1")
    assert with_environment(config, "node") == config


@pytest.mark.parametrize("without", [(), ("cache_dir", "cache_max_bytes")])
def test_parameters_may_be_left_out(
    without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they are set; a value that cannot work is not looked at then."""
    monkeypatch.setenv("FSSPILL_CACHE_DIR", "/mnt/disk")
    if without:
        monkeypatch.setenv("FSSPILL_CACHE_DIR", "no path")
    config = {"type": "fsspec", "params": {"uri": URI, "cache_max_bytes": 2**30}}
    found = dict(with_environment(config, "node", without)["params"])
    expected = {"cache_dir": "/mnt/disk", "cache_max_bytes": 2**30}
    assert found == {"uri": URI, **({} if without else expected)}


@pytest.mark.parametrize(
    ("variable", "value", "given"),
    [
        ("FSSPILL_PREFIX", "other", {"prefix": "mine"}),
        ("FSSPILL_PREFIX", "other", {}),
        ("FSSPILL_ALLOW_SECRETS", "true", {}),
        ("FSSPILL_STORAGE_OPTIONS", '{"endpoint_url": "http://other"}', {}),
    ],
)
def test_a_node_that_differs_from_its_cluster_is_refused(
    variable: str, value: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what all nodes have in common; the message has both values."""
    monkeypatch.setenv(variable, value)
    name = variable.removeprefix("FSSPILL_").lower()
    with pytest.raises(ConfigError) as caught:
        require_same_parameters({"type": "fsspec", "params": {"uri": URI, **given}})
    message = str(caught.value)
    assert f"cannot start this node with {variable}=" in message
    assert f"the head of the cluster has {name}={given.get(name, DEFAULTS[name])!r}" in message


def test_secrets_of_either_side_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the options."""
    monkeypatch.setenv("FSSPILL_STORAGE_OPTIONS", '{"key": "id", "secret": "of the node"}')
    given = {"key": "id", "secret": "of the head"}
    with pytest.raises(ConfigError) as caught:
        require_same_parameters({"params": {"uri": URI, "storage_options": given}})
    assert "secret" in str(caught.value)
    assert "of the node" not in str(caught.value)
    assert "of the head'" not in str(caught.value)


def test_a_node_that_agrees_or_has_parameters_of_its_own_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spelled otherwise is the same value; parameters of a node may differ."""
    monkeypatch.setenv("FSSPILL_PREFIX", "/mine/")
    monkeypatch.setenv("FSSPILL_CACHE_DIR", "/mnt/other")
    monkeypatch.setenv("FSSPILL_FILE_SIZE", "5")
    require_same_parameters({"params": {"uri": URI, "prefix": "mine", "cache_dir": "/mnt/disk"}})
