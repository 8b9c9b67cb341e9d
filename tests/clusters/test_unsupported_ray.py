"""Real Rays that are not as fsspill expects them: too old, or altered as the next one may be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.at_rest import keys
from tests.running import PROGRAMS, Program

pytestmark = [pytest.mark.ray]
ray = pytest.importorskip("ray")

ROOT = str(Path(__file__).parents[2])
PROGRAM = str(PROGRAMS / "unsupported_ray.py")
URI = "s3://bucket/prefix"
DIRECTORY = "object_spilling_directory"
ARGUMENTS = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
CONFIG = json.dumps({"type": "fsspec", "params": {"uri": URI}})

ALTERATIONS = {
    "a renamed function": {"_get_object_spilling_config": "_spilling_config"},
    "a renamed validation": {"validate_external_storage": "_validate_storage"},
    "a function that is no longer called": {r"self\.validate_external_storage\(\)": "pass"},
    "a renamed attribute": {"self\\._object_spilling_config": "self._spilling"},
    "a renamed setup": {"setup_external_storage": "make_external_storage"},
    "a changed signature": {
        r"(?s)(setup_external_storage\(\s*)(\w+), ([\w.]+),": r"\1\3, \2,",
    },
    "a module that is gone": {r"_private\.node\b": "_private.moved_node"},
    "a class that is gone": {"ObjectLostError": "LostError"},
}
"""Regular expressions and what replaces them in the sources of Ray."""


@pytest.fixture
def alterations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory for an altered Ray."""
    return tmp_path_factory.mktemp("altered")


def altered(alteration: str, directory: Path) -> dict[str, str]:
    """Make a Ray of links to the installed one and of altered sources; return its environment."""
    installed = Path(ray.__file__).parent
    subprocess.run(["cp", "-rs", str(installed), str(directory)], check=True)
    for path in installed.rglob("*.py"):
        text = altered_text = path.read_text()
        for pattern, replacement in ALTERATIONS[alteration].items():
            altered_text = re.sub(pattern, replacement, altered_text)
        if text != altered_text:
            copy = directory / "ray" / path.relative_to(installed)
            copy.unlink()
            copy.write_text(altered_text)
    if alteration == "a module that is gone":
        old = directory / "ray" / "_private" / "node.py"
        old.rename(old.with_name("moved_node.py"))
    return {"PYTHONPATH": str(directory)}


def outcome(environment: dict[str, str], directory: Path, **arguments: object) -> str:
    """Return what starting with a URI raised; nothing is spilled to it, and Ray works without."""
    command = ("unsupported_ray.py", str(directory), json.dumps({**ARGUMENTS, **arguments}))
    with Program(*command, environment=environment) as program:
        raised = program.expect("raised")
        assert program.expect("directories: ").endswith("[]")
        program.expect("right: True")
        program.output()
    assert keys() == []
    return raised


@pytest.mark.parametrize(
    "alteration",
    [
        pytest.param(name, marks=[] if name == "a renamed function" else pytest.mark.nightly)
        for name in ALTERATIONS
    ],
)
def test_the_next_ray(
    environment: dict[str, str], tmp_path: Path, alterations: Path, alteration: str
) -> None:
    """A URI is refused before Ray takes it for a directory; without one, Ray is as ever."""
    environment |= altered(alteration, alterations)
    raised = outcome(environment, tmp_path, object_spilling_directory=URI)
    assert "cannot spill to" in raised
    assert "Use Ray 2.45 or newer, and the newest fsspill." in raised


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("RAY_object_spilling_directory", URI),
        ("RAY_object_spilling_config", CONFIG),
        ("_system_config", {"object_spilling_config": CONFIG}),
        ("RAY_object_spilling_directory", "s3:/bucket/x"),
    ],
)
def test_every_place_of_a_uri(
    environment: dict[str, str], tmp_path: Path, alterations: Path, where: str, value: object
) -> None:
    """It is refused wherever it stands."""
    environment |= altered("a module that is gone", alterations)
    if isinstance(value, str):
        environment[where] = value
        raised = outcome(environment, tmp_path)
    else:
        raised = outcome(environment, tmp_path, **{where: value})
    assert where in raised


@pytest.mark.parametrize("alteration", ["a renamed function", "a module that is gone"])
def test_ray_start(
    environment: dict[str, str], tmp_path: Path, alterations: Path, alteration: str
) -> None:
    """The command refuses a URI too, and makes no directory."""
    environment |= altered(alteration, alterations)
    program = "from ray.scripts.scripts import main; main()"
    flags = ["--head", "--port=0", f"--object-spilling-directory={URI}"]
    command = [sys.executable, "-c", program, "start", *flags]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode != 0
    assert "cannot spill to the URI in object_spilling_directory" in ended.stdout + ended.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["2.40.0", "2.44.1"])
def test_an_old_ray(environment: dict[str, str], tmp_path: Path, version: str) -> None:
    """One without the option and the function: programs work, and a URI in any place is refused."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    # Older ones import setuptools, and do not say so.
    requirements = [ROOT, f"ray=={version}", "setuptools<80"]
    subprocess.run([f"{venv}/bin/pip", "install", "--quiet", *requirements], check=True)
    (tmp_path / "empty").mkdir()
    for variable in ({}, {"RAY_object_spilling_directory": URI}):
        arguments = json.dumps({**ARGUMENTS, **({} if variable else {DIRECTORY: URI})})
        ended = subprocess.run(
            [f"{venv}/bin/python", PROGRAM, str(tmp_path / "empty"), arguments],
            env={**environment, **variable},
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert f"found Ray {version}" in ended.stdout
        assert "directories: []" in ended.stdout
        assert "right: True" in ended.stdout
    start = [f"{venv}/bin/ray", "start", "--head", "--port=0"]
    for flags, variable in (
        ([f"--object-spilling-directory={URI}"], {}),
        (["--object-spilling-directory", URI], {}),
        ([f"--system-config={json.dumps({'object_spilling_config': CONFIG})}"], {}),
        ([], {"RAY_object_spilling_config": CONFIG}),
    ):
        ended = subprocess.run(
            [*start, *flags],
            env={**environment, **variable},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path / "empty",
        )
        assert ended.returncode == 1
        assert f"found Ray {version}" in ended.stderr
        assert "Use Ray 2.45 or newer" in ended.stderr
    assert os.listdir(tmp_path / "empty") == []
