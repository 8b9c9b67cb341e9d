"""The error of the operating system that an exception of a filesystem stands for."""

from __future__ import annotations

import errno
import ftplib
import socket
import ssl

import pytest

from fsspill.system_error import is_disconnected, number_of, unreachable


class SMBOSError(OSError):
    """As smbprotocol's."""

    def __init__(self, ntstatus: int, number: int) -> None:
        super().__init__(number, "reason", "file")
        self.ntstatus = ntstatus


class ClientConnectorError(OSError):
    """As aiohttp's, which takes over the number of the error that it holds."""

    def __init__(self, os_error: OSError) -> None:
        super().__init__(os_error.errno, os_error.strerror)
        self.os_error = os_error


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("550 No such file or directory.", errno.ENOENT),
        ("550 Failed to open file.", errno.ENOENT),
        ("553 Could not create file.", errno.ENOENT),
        ("553 Can't open that file: No such file or directory", errno.ENOENT),
        ("550 Not enough privileges.", errno.EACCES),
        ("550 Permission denied.", errno.EACCES),
        ("550 No space left on device.", errno.ENOSPC),
        ("553 Prohibited file name", errno.ENAMETOOLONG),
        ("550 Too many open files.", None),
        ("550 Input/output error.", None),
        ("550 Stale file handle.", None),
        ("550 Device or resource busy.", None),
        ("450 File unavailable", None),
        ("421 Timeout", None),
    ],
)
def test_a_reply_of_ftp_means_what_its_words_say(reply: str, number: int | None) -> None:
    """A file is missing only if the server says so: one that counts as missing is lost."""
    assert number_of(ftplib.error_perm(reply)) == number


@pytest.mark.parametrize(
    ("reply", "number"), [("421 Timeout", None), ("550 No such directory.", errno.ENOENT)]
)
def test_a_missing_file_of_ftp_is_what_the_server_has_answered(
    reply: str, number: int | None
) -> None:
    """A FileNotFoundError that fsspec makes of any answer, directly or further up."""
    answer = ftplib.error_temp(reply)
    direct, stopped, indirect = FileNotFoundError("file"), StopIteration(), FileNotFoundError("x")
    direct.__cause__ = answer
    stopped.__context__ = answer
    indirect.__cause__ = stopped
    assert number_of(direct) == number_of(indirect) == number
    assert number_of(FileNotFoundError("file")) == errno.ENOENT


@pytest.mark.parametrize(
    ("status", "given", "number"),
    [
        (0xC0000034, errno.ENOENT, errno.ENOENT),
        (0xC0000043, errno.EPERM, None),  # sharing violation
        (0xC0000022, 0, errno.EACCES),
        (0xC000007F, 0, errno.ENOSPC),
    ],
)
def test_the_status_of_smb_decides(status: int, given: int, number: int | None) -> None:
    """A file that another program has open may be free soon; a full disk is not unreachable."""
    assert number_of(SMBOSError(status, given)) == number


@pytest.mark.parametrize(
    "error",
    [ssl.SSLError(1, "record layer failure"), ssl.SSLWantReadError(2, "x"), socket.gaierror(2, "")],
)
def test_numbers_of_openssl_and_of_the_resolver_are_not_the_systems(error: OSError) -> None:
    """1 is no EPERM there, and 2 no ENOENT, also where aiohttp takes the number over."""
    assert number_of(error) is None
    assert number_of(ClientConnectorError(error)) is None
    assert number_of(ClientConnectorError(PermissionError(1, "x"))) == errno.EACCES


def test_servers_that_cannot_be_reached() -> None:
    """Also by an OSError that has no class of its own, and as the cause of another exception."""
    error = ValueError("Failed to connect")
    assert unreachable(error) is None
    for cause in (
        OSError(errno.EHOSTUNREACH, "no route"),
        ConnectionRefusedError(),
        TimeoutError(),
    ):
        error.__cause__ = cause
        assert unreachable(error) is cause


SshError = type("SSHException", (Exception,), {})
"""As paramiko's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EOFError(), True),
        (ConnectionResetError(), True),
        (SshError("SSH session not active"), True),
        (OSError("Socket is closed"), True),
        (ftplib.error_temp("421 Timeout"), True),
        (ftplib.error_reply("226 the answer to another command"), True),
        (ftplib.error_temp("450 busy"), False),
        (ftplib.error_perm("550 No such file"), False),
        (FileNotFoundError("x"), False),
        (OSError("x"), False),
    ],
)
def test_connections_that_are_lost(error: Exception, expected: bool) -> None:
    """Or out of step; an answer of the server is none."""
    assert is_disconnected(error) is expected
