"""The attributes of Ray that fsspill relies on."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import _fsspill_wrappers

import fsspill
from fsspill import ConfigError
from fsspill.ray.internals import INTERNALS, Internal, check_internals, exists

HOOK = _fsspill_wrappers.__file__
SOURCES = [*(Path(fsspill.__file__).parent / "ray").glob("*.py"), Path(HOOK)]

of_module = [row for row in INTERNALS if not row.path.startswith("node.")]
of_node = [row for row in INTERNALS if row.path.startswith("node.")]


def head() -> Any:
    """Return what the Node of a head has when it is checked."""
    return SimpleNamespace(
        head=True,
        _config={},
        _object_spilling_config="{}",
        _ray_params=SimpleNamespace(_system_config={}, object_spilling_directory=None),
        _session_name="session1",
    )


def chains(path: Path) -> Iterator[str]:
    """Yield the dotted names of attributes of Ray that a module uses, without their root."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray."):
            for alias in node.names:
                yield f"{node.module}.{alias.name}".partition(".")[2]
        names: list[str] = []
        found: ast.AST = node
        while isinstance(found, ast.Attribute):
            names.insert(0, found.attr)
            found = found.value
        root = ast.unparse(found)
        if names and root in ("ray", "node", "worker", "node_class", "self._worker()"):
            yield ".".join(names)


PUBLIC = {
    "__init__", "cancel", "connected", "init", "is_initialized", "nodes", "remote", "shutdown",
    "wait", "util", "scheduling_strategies", "NodeAffinitySchedulingStrategy", "metrics",
}  # fmt: skip


def test_the_table_has_every_attribute_that_is_used() -> None:
    """A new use of something of Ray's fails here until the table has it."""
    known = {name for row in INTERNALS for name in row.path.split(".")} | PUBLIC
    known |= {"core_worker"}  # an instance of ray._raylet.CoreWorker
    used = {name for path in SOURCES for chain in chains(path) for name in chain.split(".")}
    # Methods of values that are Ray's no longer.
    used -= {"get", "hex", "process", "pid"}
    assert used <= known, used - known


def test_this_ray_has_them_all() -> None:
    """Those of modules; the Node of a real head has the others, or no cluster would start."""
    assert [row.path for row in of_module if not exists(row.path, None)] == []
    check_internals(head())


@pytest.mark.parametrize("row", of_module, ids=lambda row: row.path)
def test_a_ray_that_lacks_one(row: Internal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head refuses a URI and names it, if fsspill cannot work without it."""
    parent, _, name = row.path.rpartition(".")
    without(parent, name, monkeypatch)
    if row.required:
        with pytest.raises(ConfigError, match=f"It lacks .*{row.path}"):
            check_internals(head())
    else:
        check_internals(head())


def without(path: str, name: str, patch: pytest.MonkeyPatch) -> None:
    """Replace what is at a path by a copy that lacks one attribute; types of C cannot lose one."""
    last = path.rpartition(".")[2]
    try:
        module = importlib.import_module(path)
    except ImportError:
        owner = importlib.import_module(".".join(path.split(".")[:-1]))
        siblings = (row.path for row in INTERNALS if row.path.startswith(f"{path}."))
        others = {sibling.rpartition(".")[2] for sibling in siblings} - {name}
        patch.setattr(owner, last, SimpleNamespace(**dict.fromkeys(others)))
    else:
        patch.delattr(module, name)
        patch.setattr(importlib, "import_module", refuse_import(f"{path}.{name}"))


def refuse_import(missing: str) -> Any:
    import_module = importlib.import_module

    def imported(name: str) -> Any:
        if name == missing:
            raise ImportError(name)
        return import_module(name)

    return imported


@pytest.mark.parametrize("row", of_node, ids=lambda row: row.path)
def test_a_node_that_lacks_one(row: Internal) -> None:
    """So it is with the attributes of the Node."""
    node = head()
    owner = node
    *parents, name = row.path.split(".")[1:]
    for parent in parents:
        owner = getattr(owner, parent)
    if hasattr(owner, name):
        delattr(owner, name)
    if row.required:
        with pytest.raises(ConfigError, match=f"It lacks {row.path}"):
            check_internals(node)
    else:
        check_internals(node)


def test_a_setup_that_is_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """IO workers would not know the type: the head says so, and why."""
    module = "ray._private.external_storage"
    monkeypatch.setitem(_fsspill_wrappers._reasons, module, "setup has no parameter 'config'")
    with pytest.raises(ConfigError, match=r"setup has no parameter 'config'.*Use Ray 2\.45"):
        check_internals(head())
