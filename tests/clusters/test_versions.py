"""One program on each release of Ray that is supported, on the Pythons that it has wheels for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests.at_rest import files, keys, spilled
from tests.running import Program, poll, ray_environment

ROOT = Path(__file__).parents[2]
OLDEST = "2.45.0"
RAYS = (OLDEST, "2.46.0", "2.48.0", "2.50.1", "2.53.0", "2.55.1", "2.58.1", "")
"""From the oldest that is supported to the newest there is, which has no number here."""

PYTHONS = ("3.10", "3.12", "3.13", "3.14")
"""Besides the one that runs the tests: for the oldest and the newest Ray."""

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
MATRIX = [
    *((ray, OWN) for ray in RAYS),
    *((ray, python) for ray in (OLDEST, "") for python in PYTHONS if python != OWN),
]
ARGUMENTS = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the certificates of the system, as pip may be configured to."""
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def find_python(version: str) -> str:
    """Return a Python of a version, from the path or installed beside this one."""
    if version == OWN:
        return sys.executable
    on_path = shutil.which(f"python{version}")
    beside = Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")
    for python in filter(None, [on_path, *map(str, beside)]):
        # The one on the path may be a stand-in of pyenv's, which runs only what is selected.
        if run(python, "-c", "").returncode == 0:
            return python
    return pytest.skip(f"no Python {version} here")


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the path of uv, which makes an environment of packages that it has in seconds."""
    directory = tmp_path_factory.mktemp("uv")
    done = run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory), "uv")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", str(directory / "cache"))
        yield str(directory / "bin" / "uv")


@pytest.fixture
def make(uv: str, tmp_path: Path) -> Callable[[str, str], str]:
    """Return a function that makes an environment of a Ray and a Python, and returns its Python."""

    def make_environment(ray: str, python: str) -> str:
        venv = tmp_path / "venv"
        made = run(uv, "venv", "--python", find_python(python), str(venv))
        assert made.returncode == 0, made.stderr
        requirements = [f"{ROOT}[s3]", f"ray=={ray}" if ray else "ray", "numpy"]
        installed = run(uv, "pip", "install", "--python", f"{venv}/bin/python", *requirements)
        if "no wheels with a matching Python" in " ".join(installed.stderr.split()):
            pytest.skip(f"Ray {ray or 'newest'} has no wheel for Python {python}")
        assert installed.returncode == 0, installed.stderr
        return f"{venv}/bin/python"

    return make_environment


def spill_and_drop(
    python: str, environment: dict[str, str], uri: str, at_rest: Callable[[], object]
) -> None:
    """Run the program to its end: objects verified, files there, refs dropped, files gone."""
    arguments = json.dumps({**ARGUMENTS, "object_spilling_directory": uri})
    with Program("spill.py", arguments, environment=environment, python=python) as program:
        program.expect("verified")
        assert at_rest()
        program.tell()
        program.expect("dropped")
        poll(lambda: not at_rest(), "Ray to delete the files")
        program.tell()
        program.output()


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("ray", "python"), MATRIX)
def test_objects_are_spilled_restored_and_deleted(
    ray: str,
    python: str,
    make: Callable[[str, str], str],
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
) -> None:
    """A program that knows only the URI spills to the disk of its node, and to a bucket."""
    found = make(ray, python)
    spilling = tmp_path / "spilling"
    with ray_environment() as environment:
        spill_and_drop(found, environment, f"file://{spilling}", lambda: files(spilling))
    with ray_environment() as environment:
        spill_and_drop(found, environment, f"s3://{s3_bucket}/prefix", spilled)
    assert keys() == []


def test_the_oldest_ray_is_the_one_that_is_required() -> None:
    """Metadata, README, docs and the message for older ones name the oldest that was tested."""
    release = OLDEST.rpartition(".")[0]
    pages = {
        "pyproject.toml": r'"ray(?:\[data\])?>=([\d.]+)"',
        "README.md": r"Tested with Ray ([\d.]+) to",
        "docs/limits.md": r"Ray ([\d.]+) or newer",
        "fsspill/hook/_fsspill_wrappers.py": r"Use Ray ([\d.]+) or",
    }
    for page, pattern in pages.items():
        named = re.findall(pattern, (ROOT / page).read_text())
        assert set(named) == {release}, page
