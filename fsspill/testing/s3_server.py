"""An S3 API on this machine: moto's server in a child process, for the demo and the tests."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import AbstractContextManager
from typing import NamedTuple

from fsspill.errors import MissingPackageError

__all__ = ["Request", "S3Server"]

_PROGRAM = "fsspill.testing.moto_server"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOGGED = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" ([0-9]{3})')


class Request(NamedTuple):
    """One HTTP request that the server answered."""

    method: str
    path: str
    status: int


_MODULES = ("moto", "flask", "flask_cors")
"""Those of moto, and those that only its server needs."""


class S3Server(AbstractContextManager["S3Server"]):
    """moto's S3 server on a free port of the loopback interface. A context manager.

    Attributes
    ----------
    endpoint_url : str
        Its address.
    environment : dict
        Environment variables of a process that uses it: endpoint and credentials.

    Notes
    -----
    The server runs in a child process and ends with this process, even if that is killed: the
    child waits for the end of a pipe. It keeps all buckets in memory.
    """

    def __init__(self) -> None:
        missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingPackageError(
                f"cannot start an S3 server: expected the module {missing[0]}, which comes with "
                'moto[server]. Install it: pip install "fsspill[all]"'
            )
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.close()
            raise RuntimeError(
                "cannot start an S3 server: expected the port of moto's server, found no output. "
                f"Run 'python -m {_PROGRAM}' to see why."
            )
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        self._call("PUT", f"/{name}")

    def reset(self) -> None:
        """Remove every bucket."""
        self._call("POST", "/moto-api/reset")

    def check_credentials(self, check: bool = True) -> None:
        """Check signatures and policies from now on, or accept every key again, as at first."""
        self._call("POST", "/moto-api/reset-auth", b"0" if check else b"inf")

    def requests(self) -> list[Request]:
        """Return every request answered so far, in order."""
        logged = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode()
        lines = _LOGGED.findall(_COLOUR.sub("", logged))
        return [Request(method, path, int(status)) for method, path, status in lines]

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, method: str, path: str, body: bytes = b"") -> None:
        # Without a type urllib declares the body a form, which the server would parse.
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self.endpoint_url + path, body, headers, method=method)
        with urllib.request.urlopen(request) as response:
            response.read()
