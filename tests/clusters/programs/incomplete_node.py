"""Start a head, then a worker node that lacks fsspill in some way; print what drivers are told.

Usage: incomplete_node.py URI {off|absent|other|complete}
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray

import fsspill

_OTHER = """
import sys
sys.path.remove({here!r})
import fsspill
fsspill.__version__ = "0.0.1"
"""

_ABSENT = "raise ModuleNotFoundError(\"No module named 'fsspill'\", name='fsspill')\n"


def main() -> None:
    uri, lack = sys.argv[1:]
    ray.init(num_cpus=1, object_spilling_directory=uri, include_dashboard=False)
    address = ray.get_runtime_context().gcs_address
    command = [os.path.join(os.path.dirname(sys.executable), "ray"), "start"]
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, **_lacking(lack, Path(directory))}
        started = subprocess.run(
            [*command, f"--address={address}", "--num-cpus=1"], env=environment, check=False
        )
        print(f"status {started.returncode} {fsspill.__version__}", flush=True)
        print(f"nodes {sum(node['Alive'] for node in ray.nodes())}", flush=True)
        time.sleep(float(sys.stdin.readline().strip() or 0))
    ray.shutdown()


def _lacking(lack: str, directory: Path) -> dict[str, str]:
    """Return the variables of an environment that lacks fsspill in some way."""
    if lack == "off":
        return {"FSSPILL_HOOK": "0"}
    if lack == "absent":
        (directory / "fsspill.py").write_text(_ABSENT)
        (directory / "_fsspill_startup.py").write_text("def start(): pass\n")
        return {"PYTHONPATH": str(directory)}
    if lack == "other":
        (directory / "sitecustomize.py").write_text(_OTHER.format(here=str(directory)))
        return {"PYTHONPATH": str(directory)}
    return {}


main()
