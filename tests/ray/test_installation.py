"""The hook where Python does not run .pth files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import fsspill.ray
from tests.ray.test_hook import HOOK, python


def test_the_hook_of_the_installation_is_found() -> None:
    """In a process that has run the .pth file there is nothing to install."""
    assert fsspill.ray.is_installed()


def test_child_processes_inherit_the_hook(tmp_path: Path) -> None:
    """Even if .pth files are not run, install() reaches this process and those it starts.

    The user's own sitecustomize is still run there.
    """
    (tmp_path / "sitecustomize.py").write_text("print('the own one')")
    path = [str(tmp_path), *(entry for entry in sys.path if entry)]
    environment = {"FSSPILL_HOOK": "", "PYTHONPATH": os.pathsep.join(path)}
    printed = python("-S", HOOK, "install", environment=environment)
    assert "the own one" in printed
    assert printed.count("'RayHook'") == 1


def test_child_processes_without_a_sitecustomize_are_silent() -> None:
    """The hook is armed there, and nothing is printed."""
    child = "import sys; print([type(f).__name__ for f in sys.meta_path].count('RayHook'))"
    path = [str(Path(fsspill.__file__).parent / "hook"), *(entry for entry in sys.path if entry)]
    environment = {"FSSPILL_HOOK": "", "PYTHONPATH": os.pathsep.join(path)}
    assert python("-c", child, environment=environment).strip() == "1"


def test_modules_of_ray_that_are_imported_already_are_wrapped() -> None:
    """install() works after the import of Ray too."""
    pytest.importorskip("ray")
    python(HOOK, "install_after_ray", environment={"FSSPILL_HOOK": "0"})


def test_a_running_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """IO workers of a cluster that already runs would lack the hook: the error says so."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr("fsspill.ray.installation.is_installed", lambda: False)
    path = os.environ.get("PYTHONPATH")
    with pytest.raises(RuntimeError, match=r"already runs.*before ray\.init"):
        fsspill.ray.install()
    assert os.environ.get("PYTHONPATH") == path
