"""The oldest versions that fsspill allows, all at once: a part that takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installation.environments import Environment
from tests.installation.test_image import ROOT, TOOLS, run_tests


@pytest.mark.timeout(1800)
def test_the_floors_pass_the_contract_on_s3(tmp_path: Path) -> None:
    """Read by obstore, and by the filesystem; the rest of the tests follows nightly."""
    floors = Environment(tmp_path / "floors", "uv")
    floors.install(*TOOLS)
    floors.install("--resolution", "lowest-direct", f"{ROOT}[s3]")
    contract = "contract/test_contract.py"
    run_tests(floors, f"{contract}::TestS3", f"{contract}::TestS3ReadByTheFilesystem")
