"""Installation into a replica of an official image of Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsspill.testing.s3_server import S3Server
from tests.installation.environments import IMAGE, IMAGE_PIP, Environment, build_wheel, run

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

NEIGHBOURS = """
import adlfs, boto3, smart_open
s3 = boto3.client("s3")
s3.put_object(Bucket="bucket", Key="a", Body=b"boto3")
with smart_open.open("s3://bucket/b", "wb") as file:
    file.write(b"smart_open")
assert smart_open.open("s3://bucket/a", "rb").read() == b"boto3"
assert [found["Key"] for found in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a", "b"]
adlfs.AzureBlobFileSystem(account_name="account", account_key="a2V5")
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the working tree."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def image(tmp_path: Path) -> Environment:
    """Return an environment with the packages and the pip of the image, without Ray."""
    environment = Environment(tmp_path / "image", IMAGE_PIP)
    environment.pip("install", "--quiet", "-r", str(IMAGE), f"pip=={IMAGE_PIP}")
    return environment


@pytest.mark.parametrize("extra", ["s3", "gcs", "azure"])
def test_with_its_versions_as_constraints_nothing_changes(
    image: Environment, wheel: Path, tmp_path: Path, extra: str, s3_bucket: str
) -> None:
    """The two lines for a Dockerfile add packages, and replace none."""
    before = image.freeze()
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(image.pip("list", "--format=freeze"))
    image.pip("install", "-c", str(constraints), f"{wheel}[{extra}]")
    assert before <= image.freeze()
    assert "No broken requirements" in image.pip("check")
    if extra == "s3":
        run(image.python, "-c", NEIGHBOURS)
        run(image.python, "-W", "error", "-c", ROUND_TRIP)


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_without_constraints_everything_fits_together(
    image: Environment, wheel: Path, installer: str, s3_server: S3Server, s3_bucket: str
) -> None:
    """Packages are replaced, all that must suit each other, and no error is printed."""
    if installer == "pip":
        printed = image.pip("install", f"{wheel}[s3]")
    else:
        image.pip("install", "--quiet", "uv")
        uv = (image.python, "-m", "uv", "pip", "install", "--python", image.python)
        printed = run(*uv, f"fsspill[s3] @ {wheel.as_uri()}")
    assert "ERROR" not in printed
    assert "No broken requirements" in image.pip("check")
    run(image.python, "-c", NEIGHBOURS)
    run(image.python, "-c", ROUND_TRIP)


def test_the_floors_pass_the_tests_of_storage(tmp_path: Path) -> None:
    """The oldest version of every direct dependency, all at once."""
    environment = Environment(tmp_path / "floors")
    environment.pip("install", "--quiet", "uv", "pytest", "pytest-timeout", "hypothesis")
    root = Path(__file__).parents[2]
    uv = (environment.python, "-m", "uv", "pip", "install", "--python", environment.python)
    run(*uv, "--resolution", "lowest-direct", f"{root}[all]")
    tests = [str(root / "tests" / name) for name in ("storage", "contract/test_contract.py")]
    run(environment.python, "-m", "pytest", "-q", "-c", str(root / "pyproject.toml"), *tests)
