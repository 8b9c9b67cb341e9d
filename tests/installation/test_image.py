"""Installation into a replica of an official image of Ray."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests import emulators
from tests.installation.environments import IMAGE, IMAGE_PIP, Environment, build_wheel, run
from tests.running import ray_environment

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]

NEIGHBOURS = """
import boto3, fsspec, smart_open
s3 = boto3.client("s3")
s3.put_object(Bucket="bucket", Key="a", Body=b"boto3")
with smart_open.open("s3://bucket/b", "wb") as file:
    file.write(b"smart_open")
assert smart_open.open("s3://bucket/a", "rb").read() == b"boto3"
assert [found["Key"] for found in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a", "b"]
azure = fsspec.filesystem("abfs")
azure.mkdir("container")
azure.pipe("container/a", b"adlfs")
assert azure.cat("container/a") == b"adlfs"
assert azure.find("container") == ["container/a"]
azure.rm("container", recursive=True)
"""

ROUND_TRIP = """
from fsspill import ExternalStorage, InMemoryObjectStore
store = InMemoryObjectStore()
store.put(b"ref", bytes(20 << 20))
storage = ExternalStorage("s3://bucket/x", object_store=store, engine="obstore")
storage.check()
urls = storage.spill_objects([b"ref"])
store.delete(b"ref")
assert storage.restore_spilled_objects([b"ref"], urls) == 20 << 20
storage.destroy_external_storage()
"""

UNDER_RAY = """
import numpy, ray
ray.init(object_spilling_directory="s3://bucket/spill", object_store_memory=80 << 20, num_cpus=1,
         include_dashboard=False)
refs = [ray.put(numpy.full(5 << 20, number, numpy.uint8)) for number in range(30)]
assert all(ray.get(ref)[0] == number for number, ref in enumerate(refs))
import os, subprocess, sys
command = [os.path.join(os.path.dirname(sys.executable), "fsspill")]
print(subprocess.run([*command, "ls", "s3://bucket/spill"], check=True, capture_output=True,
                     text=True).stdout)
subprocess.run([*command, "clean", "s3://bucket/spill"], check=True)
assert all(ray.get(ref)[0] == number for number, ref in enumerate(refs))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the working tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the environment that reaches an emulator of Azure's storage."""
    with emulators.azure(tmp_path_factory.mktemp("azure")) as variables:
        yield variables


@pytest.fixture
def neighbours(
    azure: dict[str, str], s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Return what reaches the storage of the programs that are in the image."""
    for name, value in azure.items():
        monkeypatch.setenv(name, value)
    return azure


@pytest.fixture
def image(tmp_path: Path) -> Environment:
    """Return an environment with the packages and the pip of the image, without Ray."""
    environment = Environment(tmp_path / "image", "uv")
    environment.install("-r", str(IMAGE), f"pip=={IMAGE_PIP}")
    return environment


def lines_for_a_dockerfile(wheel: Path, directory: Path, extra: str) -> str:
    """Return the commands of the README that install an extra, from a wheel."""
    found = re.search(r"(pip list --format=freeze.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert found
    commands = found[1].replace("/tmp/", f"{directory}/")
    return commands.replace("fsspill[s3]", f"{wheel}[{extra}]").replace("\n", " && ", 1)


def shell(image: Environment, commands: str) -> str:
    """Run commands where the programs of the image come first."""
    path = os.pathsep.join([f"{image.directory}/bin", os.environ["PATH"]])
    return run("env", f"PATH={path}", "sh", "-ec", commands)


def check(image: Environment) -> str:
    """Return what `pip check` says."""
    return run(image.python, "-m", "pip", "check")


@pytest.mark.parametrize("extra", ["s3", "gcs", "azure"])
def test_the_two_lines_of_the_readme_change_no_version(
    image: Environment, wheel: Path, tmp_path: Path, extra: str, neighbours: dict[str, str]
) -> None:
    """They add packages, and replace none; all of them fit, and do their work."""
    before = image.freeze()
    shell(image, lines_for_a_dockerfile(wheel, tmp_path, extra))
    assert before <= image.freeze()
    assert "No broken requirements" in check(image)
    run(image.python, "-c", NEIGHBOURS)
    if extra == "s3":
        run(image.python, "-W", "error", "-c", ROUND_TRIP)


@pytest.mark.ray
def test_ray_spills_there(
    image: Environment, wheel: Path, tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    """The URI is all it takes; `ls` shows the session as alive, and `clean` leaves it alone."""
    image.install("ray[default]==2.55.1", "-r", str(IMAGE))
    shell(image, lines_for_a_dockerfile(wheel, tmp_path, "s3"))
    with ray_environment(s3_server.environment) as environment:
        # Starting takes longer beside other programs than Ray waits for.
        environment["RAY_raylet_start_wait_time_s"] = "600"
        changed = [f"{name}={value}" for name, value in environment.items() if "\n" not in value]
        printed = run("env", *changed, image.python, "-c", UNDER_RAY)
    assert "alive" in printed
    assert any("-multi-" in request.path for request in s3_server.requests())


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_without_constraints_everything_fits_together(
    image: Environment,
    wheel: Path,
    tmp_path: Path,
    installer: str,
    neighbours: dict[str, str],
) -> None:
    """Packages are replaced, all that must suit each other, and no error is printed."""
    if installer == "pip":
        printed = shell(image, f"pip install '{wheel}[s3]'")
    else:
        printed = image.install(f"{wheel}[s3]")
    assert "ERROR" not in printed
    assert "No broken requirements" in check(image)
    run(image.python, "-c", NEIGHBOURS)
    run(image.python, "-c", ROUND_TRIP)


TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "moto[server]")
"""Packages that `run_tests` needs, besides those of fsspill."""


CLI = [f"cli/test_{name}.py" for name in ("main", "ls", "clean", "options")]
"""Tests of the command line that need no Ray."""


UNABLE = "test_both_engines_reach_https_through_a_tunnel"
"""The aiobotocore of the image trusts no AWS_CA_BUNDLE behind a proxy: the check at the start
fails, and names the certificate."""


def run_tests(environment: Environment, *tests: str) -> None:
    """Run tests of this repository in an environment."""
    paths = [str(ROOT / "tests" / name) for name in tests]
    pytest = (environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    run(*pytest, "-c", str(ROOT / "pyproject.toml"), "-k", f"not {UNABLE}", *paths)


def test_the_image_passes_the_tests_of_storage(
    image: Environment, wheel: Path, tmp_path: Path
) -> None:
    """The contract, the whole of S3, `ls` and `clean`, with what the image has."""
    shell(image, lines_for_a_dockerfile(wheel, tmp_path, "s3,gcs,azure,sftp,compression,cli"))
    image.install(*TOOLS, "-r", str(IMAGE))
    run_tests(image, "storage", "contract/test_contract.py", "cleanup", *CLI)


def test_the_floors_pass_the_tests_of_storage(tmp_path: Path) -> None:
    """The oldest version of every direct dependency, all at once."""
    floors = Environment(tmp_path / "floors", "uv")
    floors.install(*TOOLS)
    floors.install("--resolution", "lowest-direct", f"{ROOT}[all]")
    run_tests(floors, "storage", "contract/test_contract.py")
