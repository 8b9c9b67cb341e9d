"""The tests that face Ray, with the oldest Ray that is supported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDEST = "2.50.0"


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_oldest_supported_ray_works(tmp_path: Path) -> None:
    """Hook, validation and clusters behave as with the newest."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    requirements = [f"{ROOT}[s3,cli]", f"ray[data]=={OLDEST}"]
    requirements += ["moto[server]", "pytest", "pytest-timeout", "hypothesis", "numpy"]
    pip = [f"{tmp_path}/bin/pip", "install", "--quiet"]
    # The pip that comes with Python 3.11 fails to find versions that fit together.
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, *requirements], check=True)
    tests = ["clusters/test_cluster.py", "ray", "contract/test_layout.py", "cli"]
    tests += ["clusters/test_ray_faults.py"]
    command = [f"{tmp_path}/bin/pytest", "-q", *(f"tests/{name}" for name in tests)]
    path = os.pathsep.join([f"{tmp_path}/bin", os.environ["PATH"]])
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
