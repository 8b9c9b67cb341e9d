"""Resolution of fsspill beside other packages, by pips of several years and uv.

``python -m tests.installation.resolve [--seconds 60] [--pip 24.3.1 ...] [request ...]`` prints one
line for each pip and request: whether a solution was found, and in how many seconds. Nothing is
installed. A request is what follows ``pip install``, as one argument.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.installation.environments import PIPS, Environment, build_wheel, run

REQUESTS = (
    "fsspill",
    "fsspill[s3]",
    "fsspill[gcs]",
    "fsspill[azure]",
    "fsspill[s3] gcsfs adlfs",
    "fsspill[s3] boto3",
    "boto3 fsspill[s3]",
    "aiobotocore fsspill[s3] boto3",
    "aiobotocore fsspill[s3] moto[server]",
    "aiobotocore fsspill[s3] ray[data] boto3",
    "aiobotocore fsspill[s3] datasets",
    "aiobotocore fsspill[s3] awscli",
    "aiobotocore fsspill[s3] sagemaker",
    "aiobotocore fsspill[s3] mlflow",
    "fsspill[s3] aioboto3",
)
"""pip before 25.1 decides about what the command names first; so aiobotocore, which suits few
releases of botocore, is named before what brings the newest boto3."""


def resolve(environment: Environment | None, wheel: Path, request: str, seconds: float) -> str:
    """Return "ok", or why pip found no solution; uv if there is no environment."""
    words = [word.replace("fsspill", str(wheel)) for word in request.split()]
    try:
        if environment is None:
            uv = ("uv", "pip", "install", "--python", sys.executable, "--reinstall", "--dry-run")
            run(sys.executable, "-m", *uv, *words, seconds=seconds)
        else:
            ignored = ("--ignore-installed", "--disable-pip-version-check")
            environment.pip("install", "--dry-run", *ignored, *words, seconds=seconds)
    except subprocess.TimeoutExpired:
        return f"no end in {seconds:.0f} s"
    except subprocess.CalledProcessError as error:
        return " ".join(error.output.split()[-25:])
    return "ok"


def matrix(
    pips: list[str], requests: list[str], seconds: float
) -> Iterator[tuple[str, str, str, float]]:
    """Yield each pip and request with the answer and the seconds that it took."""
    with tempfile.TemporaryDirectory() as directory:
        wheel = build_wheel(Path(directory) / "wheel")
        for pip in pips:
            made = None if pip == "uv" else Environment(Path(directory) / pip, pip)
            for request in requests:
                begin = time.monotonic()
                answer = resolve(made, wheel, request, seconds)
                yield pip, request, answer, time.monotonic() - begin


def main() -> int:
    """Print the matrix; return 1 if anything did not resolve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("requests", nargs="*", default=REQUESTS)
    parser.add_argument("--pip", action="append", help='a version, "newest" or "uv"; repeatable')
    parser.add_argument("--seconds", type=float, default=60.0, help="for each (default: 60)")
    arguments = parser.parse_args()
    failures = 0
    rows = matrix(arguments.pip or [*PIPS, "uv"], list(arguments.requests), arguments.seconds)
    for pip, request, answer, seconds in rows:
        print(f"{pip:8} {seconds:5.1f} s  {request:45} {answer}", flush=True)
        failures += answer != "ok"
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
