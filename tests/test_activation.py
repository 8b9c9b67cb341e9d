"""The hook where Python runs no .pth file, such as the directory of ``pip install --target``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import fsspill
from fsspill import activation
from fsspill.testing.s3_server import S3Server
from tests.running import PATIENCE, ray_environment

PACKAGE = Path(fsspill.__file__).parent


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory as ``pip install --target`` makes it: the files of the wheel."""
    directory = tmp_path_factory.mktemp("target")
    shutil.copytree(PACKAGE, directory / "fsspill")
    for file in (PACKAGE / "hook").glob("_fsspill_*"):
        shutil.copy(file, directory)
    return directory


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python whose site-packages are empty."""
    directory = tmp_path_factory.mktemp("python")
    venv.create(directory, with_pip=False, symlinks=True)
    return str(directory / "bin" / "python")


@pytest.fixture
def environment(target: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield an environment with the other packages on PYTHONPATH, where .pth files are not run."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "fsspill" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    with ray_environment() as environment:
        environment.pop("FSSPILL_HOOK", None)
        yield environment | {"PYTHONPATH": f"{target}{os.pathsep}{packages}"}


def run(*command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command outside of the working tree."""
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, cwd="/"
    )


def test_the_import_says_in_one_line_that_a_uri_would_be_taken_for_a_directory(
    python: str, target: Path, environment: dict[str, str]
) -> None:
    """The line has what to set, with the directories as they are."""
    done = run(python, "-c", "import fsspill", environment=environment)
    [line] = done.stderr.splitlines()
    assert "takes a URI to spill to for a directory" in line
    assert f"PYTHONPATH={target / 'fsspill' / 'hook'}{os.pathsep}{target}" in line
    assert "python -m fsspill.ray start" in line


def test_the_command_line_says_so_too(python: str, environment: dict[str, str]) -> None:
    """Whatever the command."""
    pytest.importorskip("rich")
    done = run(python, "-m", "fsspill.cli.main", "--version", environment=environment)
    assert "takes a URI to spill to for a directory" in done.stderr


@pytest.mark.parametrize("how", ["set", "off"])
def test_nothing_is_said_where_the_hook_is_active_or_switched_off(
    python: str, target: Path, environment: dict[str, str], how: str
) -> None:
    """With what the line says to set, or with FSSPILL_HOOK=0."""
    if how == "set":
        environment["PYTHONPATH"] = f"{target / 'fsspill' / 'hook'}:{environment['PYTHONPATH']}"
    else:
        environment["FSSPILL_HOOK"] = "0"
    program = "import fsspill; print(fsspill.activation.is_armed())"
    done = run(python, "-c", program, environment=environment)
    assert (done.stdout.strip(), done.stderr) == (str(how == "set"), "")


def test_this_interpreter_is_armed() -> None:
    """Its site-packages have the .pth file."""
    assert activation.is_armed()
    assert [Path(entry).is_dir() for entry in activation.hook_directories()] == [True, True]


@pytest.mark.ray
@pytest.mark.nightly
def test_ray_start_from_such_a_directory_spills_to_the_uri(
    python: str, environment: dict[str, str], s3_server: S3Server, s3_bucket: str
) -> None:
    """``python -m fsspill.ray start`` gives the hook to the raylet and its IO workers."""
    pytest.importorskip("ray")
    environment |= s3_server.environment
    started = run(
        python,
        "-m",
        "fsspill.ray",
        "start",
        "--head",
        "--port=0",
        "--num-cpus=1",
        "--include-dashboard=false",
        f"--object-store-memory={80 * 2**20}",
        f"--object-spilling-directory=s3://{s3_bucket}/x",
        environment=environment,
    )
    assert started.returncode == 0, started.stdout + started.stderr
    done = run(python, "-c", PROGRAM, environment=environment)
    assert "restored" in done.stdout, done.stderr
    assert any("-multi-" in request.path for request in s3_server.requests())


PROGRAM = """
import numpy as np, ray
ray.init("auto", logging_level="ERROR")
refs = [ray.put(np.full(5 << 20, number, np.uint8)) for number in range(30)]
assert all(ray.get(ref)[0] == number for number, ref in enumerate(refs))
print("restored")
"""
