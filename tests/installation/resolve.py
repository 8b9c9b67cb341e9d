"""Resolution of fsspill beside other packages, by pips of several years and uv.

``python -m tests.installation.resolve [--seconds 60] [--pip 24.3.1 ...] [request ...]`` prints one
line for each pip and request: whether a solution was found, in how many seconds of CPU time, and
after how many downloads. Other programs on the machine make the seconds up to three times as many
(measured), and change no number of downloads. Nothing is installed. A request is what follows
``pip install``, as one argument.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.installation.environments import PIPS, CommandError, Environment, build_wheel

REQUESTS = (
    "fsspill",
    "fsspill[s3]",
    "fsspill[gcs]",
    "fsspill[azure]",
    "fsspill[s3] gcsfs adlfs",
    "gcsfs adlfs fsspill[s3]",
    "fsspill[s3] aioboto3",
    "aioboto3 fsspill[s3]",
    "fsspill[s3] datasets",
    "datasets fsspill[s3]",
)
"""What every pip resolves."""

WITH_BOTO3 = (
    "fsspill[s3] boto3",
    "fsspill[s3] moto[server]",
    "fsspill[s3] ray[data] boto3",
    "fsspill[s3] awscli",
    "fsspill[s3] sagemaker",
    "fsspill[s3] mlflow",
)
"""What brings the newest boto3, which is ahead of every aiobotocore for some weeks. pip before 25.1
decides about what the command names first, and filters all releases of botocore for each pair of
the two: so those that name boto3 itself need aiobotocore to be named before it, as in
`named_first`, and the others are tried in that way too."""


def named_first(request: str) -> str:
    """Return a request of `WITH_BOTO3` with aiobotocore before what brings boto3."""
    return f"aiobotocore {request}"


def reversed_order(request: str) -> str:
    """Return a request with its words in the other order."""
    return " ".join(reversed(request.split()))


class Answer(NamedTuple):
    """The end of one resolution."""

    found: str
    """"ok", or why there is no solution."""

    cpu_seconds: float
    downloads: int
    """Packages whose metadata pip read; 0 with uv, which does not say."""


def resolve(environment: Environment, wheel: Path, request: str, cpu_seconds: int) -> Answer:
    """Let the installer of an empty environment find a solution for a request."""
    words = [word.replace("fsspill", str(wheel)) for word in request.split()]
    begin = _cpu_seconds_of_children()
    try:
        output = environment.install("--dry-run", *words, cpu_seconds=cpu_seconds)
        found = "ok"
    except CommandError as error:
        output = error.output
        out_of_time = f"no end in {cpu_seconds} s"
        found = out_of_time if error.is_out_of_time else " ".join(output.split()[-25:])
    downloads = len(re.findall(r"^ *(?:Downloading|Using cached) ", output, re.MULTILINE))
    return Answer(found, _cpu_seconds_of_children() - begin, downloads)


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def matrix(
    pips: list[str], requests: list[str], cpu_seconds: int
) -> Iterator[tuple[str, str, Answer]]:
    """Yield each pip and request with the answer."""
    with tempfile.TemporaryDirectory() as directory:
        wheel = build_wheel(Path(directory) / "wheel")
        for pip in pips:
            made = Environment(Path(directory) / pip, pip)
            for request in requests:
                yield pip, request, resolve(made, wheel, request, cpu_seconds)


def main() -> int:
    """Print the matrix; return 1 if anything did not resolve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("requests", nargs="*", default=(*REQUESTS, *WITH_BOTO3))
    parser.add_argument("--pip", action="append", help='a version, "newest" or "uv"; repeatable')
    parser.add_argument("--seconds", type=int, default=60, help="of CPU time, each (default: 60)")
    arguments = parser.parse_args()
    failures = 0
    rows = matrix(arguments.pip or [*PIPS, "uv"], list(arguments.requests), arguments.seconds)
    for pip, request, answer in rows:
        cost = f"{answer.cpu_seconds:5.1f} s {answer.downloads:4} downloads"
        print(f"{pip:8} {cost}  {request:45} {answer.found}", flush=True)
        failures += answer.found != "ok"
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
