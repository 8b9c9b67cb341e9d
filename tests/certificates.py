"""Certificates of servers on the loopback interface."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["Certificate", "make_certificate"]

_HOST = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:tunnel.test"


class Certificate(NamedTuple):
    """A server's certificate.

    Attributes
    ----------
    bundle : Path
        Certificates that a client has to trust.
    certificate, key : Path
        The certificate of the server, and its private key.
    """

    bundle: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the settings of a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(directory: Path, *, own: bool = False, signs: bool = False) -> Certificate:
    """Make a certificate in a directory, signed by an authority of its own.

    Parameters
    ----------
    directory : Path
        Directory that exists.
    own : bool
        Sign it with its own key, as MinIO's documentation does: it is then the bundle too.
    signs : bool
        Make it one that may sign others, as openssl does by default.
    """
    authority, authority_key = directory / "authority.pem", directory / "authority-key.pem"
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    leaf = ["-addext", _HOST, "-addext", f"basicConstraints=critical,CA:{str(signs).upper()}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    if own:
        _openssl(*new, *leaf, "-subj", "/CN=server", *files)
        return Certificate(certificate, certificate, key)
    signing = ["-keyout", str(authority_key), "-out", str(authority)]
    _openssl(*new, "-subj", "/CN=authority", *signing)
    by = ["-CA", str(authority), "-CAkey", str(authority_key)]
    _openssl(*new, *leaf, "-subj", "/CN=server", *by, *files)
    return Certificate(authority, certificate, key)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
