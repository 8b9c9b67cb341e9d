"""Places where Python finds fsspill, and users as whom it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipapp
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests.installation.environments import build_wheel, run
from tests.other_users import OTHER, needs_root, public_directory
from tests.running import ray_environment

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

PROBE = """
import subprocess, sys
child = "import fsspill.ray; print(fsspill.__file__, fsspill.ray.is_installed())"
subprocess.run([sys.executable, "-c", child], check=True)
import ray._private.external_storage
import fsspill.ray
print("wrapped", fsspill.ray.is_installed())
"""

UNDER_RAY = """
import os, numpy, ray
assert "HOME" not in os.environ
ray.init(object_spilling_directory="s3://bucket/x", object_store_memory=80 << 20, num_cpus=1,
         include_dashboard=False)
refs = [ray.put(numpy.full(5 << 20, number, numpy.uint8)) for number in range(30)]
assert all(ray.get(ref)[0] == number for number, ref in enumerate(refs))
print("restored as", os.getuid())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the working tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with Ray and all other packages of this environment, without fsspill."""
    pytest.importorskip("ray")
    directory = tmp_path_factory.mktemp("packages")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "fsspill" not in entry.name and entry.suffix != ".pth":
            (directory / entry.name).symlink_to(entry)
    return directory


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Yield an environment in which nothing is found but what a test installs."""
    with ray_environment() as environment:
        for name in ("FSSPILL_HOOK", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONUSERBASE"):
            environment.pop(name, None)
        # Starting takes longer beside other programs than Ray waits for.
        yield environment | {"RAY_raylet_start_wait_time_s": "600"}


def site_packages(directory: Path) -> Path:
    """Return where a virtual environment has its packages."""
    scheme = sysconfig.get_paths("venv", vars={"base": str(directory), "platbase": str(directory)})
    return Path(scheme["purelib"])


def make_venv(directory: Path, packages: Path | None, *, sees_outside: bool = False) -> str:
    """Return the Python of a new virtual environment that has some packages too."""
    venv.create(directory, with_pip=False, symlinks=True, system_site_packages=sees_outside)
    if packages:
        (site_packages(directory) / "packages.pth").write_text(f"{packages}\n")
    return str(directory / "bin" / "python")


def install(target: Path, wheel: Path) -> None:
    """Install fsspill alone into a directory."""
    uv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps")
    run(*uv, "--python", sys.executable, "--target", str(target), str(wheel))


def printed(*command: str, environment: Mapping[str, str]) -> str:
    """Return what a command printed to both outputs."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def assert_active(output: str, directory: Path) -> None:
    """Require the hook in a process and in its children, from a directory."""
    assert f"{directory}/fsspill/__init__.py True" in output
    assert "wrapped True" in output


@pytest.mark.parametrize("place", ["site-packages", "site-packages that see those outside"])
def test_a_virtual_environment(
    tmp_path: Path, packages: Path, wheel: Path, environment: dict[str, str], place: str
) -> None:
    """Ray may be outside of it, where ``--system-site-packages`` lets it be seen."""
    outside = place != "site-packages"
    if outside:
        user_site = Path(sysconfig.get_path("purelib", "posix_user", {"userbase": str(tmp_path)}))
        user_site.mkdir(parents=True)
        (user_site / "packages.pth").write_text(f"{packages}\n")
        environment["PYTHONUSERBASE"] = str(tmp_path)
    python = make_venv(tmp_path / "venv", None if outside else packages, sees_outside=outside)
    target = site_packages(tmp_path / "venv")
    install(target, wheel)
    assert_active(printed(python, "-c", PROBE, environment=environment), target)


def test_the_site_packages_of_a_user(
    tmp_path: Path, packages: Path, wheel: Path, environment: dict[str, str]
) -> None:
    """As ``pip install --user`` makes them."""
    user_site = Path(sysconfig.get_path("purelib", "posix_user", {"userbase": str(tmp_path)}))
    install(user_site, wheel)
    (user_site / "packages.pth").write_text(f"{packages}\n")
    python = make_venv(tmp_path / "venv", None, sees_outside=True)
    environment["PYTHONUSERBASE"] = str(tmp_path)
    assert_active(printed(python, "-c", PROBE, environment=environment), user_site)


def test_uv_run_with(
    tmp_path: Path, packages: Path, wheel: Path, environment: dict[str, str]
) -> None:
    """``uv run --with`` puts it over an environment that has Ray."""
    python = make_venv(tmp_path / "venv", packages)
    uv = (sys.executable, "-m", "uv", "run", "--no-project", "--python", python)
    output = printed(*uv, "--with", str(wheel), "python", "-c", PROBE, environment=environment)
    assert re.search(r"/fsspill/__init__\.py True", output)
    assert "wrapped True" in output


@pytest.mark.parametrize("place", ["--target", "zip application"])
def test_where_no_pth_file_is_run_the_line_says_what_to_set(
    tmp_path: Path, packages: Path, wheel: Path, environment: dict[str, str], place: str
) -> None:
    """With that in the environment the hook is active, in child processes too."""
    target = tmp_path / "target"
    install(target, wheel)
    python = make_venv(tmp_path / "venv", packages)
    if place == "--target":
        environment["PYTHONPATH"] = str(target)
        program = ["-c", "import fsspill"]
    else:
        (target / "__main__.py").write_text("import fsspill")
        application = tmp_path / "application.pyz"
        zipapp.create_archive(target, application)
        target, program = application, [str(application)]
    [line] = printed(python, *program, environment=environment).splitlines()
    found = re.search(r"Set PYTHONPATH=(\S+) for it", line)
    assert found
    environment["PYTHONPATH"] = found[1]
    assert printed(python, *program, environment=environment) == ""
    assert_active(printed(python, "-c", PROBE, environment=environment), target)


@pytest.mark.ray
@needs_root
def test_a_user_without_a_name_and_a_home(
    packages: Path, wheel: Path, environment: dict[str, str], s3_server: S3Server, s3_bucket: str
) -> None:
    """An unprivileged user without an entry in the table of users, with umask 077, spills."""
    setpriv = shutil.which("setpriv") or pytest.skip("needs setpriv")
    # The user may read all files, as it could if this Python were not in a home directory.
    read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    user = (setpriv, f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", *read)
    with public_directory() as directory:
        python = make_venv(directory / "venv", packages)
        install(site_packages(directory / "venv"), wheel)
        temporary = Path(environment["RAY_TMPDIR"])
        os.chown(temporary, OTHER, OTHER)
        environment |= s3_server.environment
        environment.pop("HOME", None)
        command = (*user, "sh", "-c", 'umask 077; exec "$0" -c "$1"', python, UNDER_RAY)
        assert f"restored as {OTHER}" in printed(*command, environment=environment)
    assert any("-multi-" in request.path for request in s3_server.requests())
