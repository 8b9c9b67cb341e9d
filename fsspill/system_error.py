"""The error of the operating system that an exception of a filesystem stands for.

Filesystems for FTP and SMB have classes of their own, and numbers or texts that say less or more
than the class. Other exceptions are `OSError` with numbers that are not the operating system's.
"""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator
from socket import gaierror

from fsspill.http_answer import causes

__all__ = ["is_disconnected", "is_named", "number_of", "unreachable"]

_FTP_BY_NAME = frozenset({"error_perm", "error_temp", "error_reply", "error_proto"})  # ftplib
_FTP_REPLIES = {
    "452": errno.ENOSPC,
    "530": errno.EACCES,  # not logged in
    "532": errno.EACCES,  # no account to store files
    "550": errno.ENOENT,  # no file or directory of that name, unless the text says otherwise
    "552": errno.EDQUOT,
    "553": errno.ENAMETOOLONG,  # no name that a file may have, unless the text says otherwise
}
"""By the reply code of RFC 959 with which the text of ftplib's errors begins."""

_FTP_WORDS: tuple[tuple[str, int | None], ...] = (
    ("no such|not found|n[o']t exist|n[o']t find", errno.ENOENT),
    ("denied|privilege|permi|allowed|forbidden|read.?only", errno.EACCES),
    ("space|quota|disk full", errno.ENOSPC),
    ("too many|temporar|try again|busy|in use|being used|locked|i/o|input/output|stale", None),
    ("timed? ?out|resource|memory", None),
    ("not create", errno.ENOENT),  # vsftpd, also where the directory is missing
)
"""Words of replies 550 and 553 and their numbers, None for what may pass: servers answer one of
these for whatever their own operating system has refused."""

_SMB_BY_NAME = frozenset({"SMBOSError", "SMBResponseException"})  # smbprotocol
_SMB_STATUSES: dict[int, int | None] = {
    0xC0000022: errno.EACCES,  # access denied
    0xC0000043: None,  # sharing violation: another program, such as a virus scanner, has the file
    0xC0000044: errno.EDQUOT,
    0xC0000056: None,  # a deletion of that name is pending
    0xC000006D: errno.EACCES,  # logon failure
    0xC0000071: errno.EACCES,  # password expired
    0xC0000072: errno.EACCES,  # account disabled
    0xC000007F: errno.ENOSPC,
    0xC0000234: errno.EACCES,  # account locked out
}
"""By status, those that smbprotocol gives another number, or none."""

_UNREACHABLE = frozenset(
    {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN}
)
_SSH_BY_NAME = frozenset({"SSHException"})
_LONGEST_CHAIN = 10


def number_of(error: BaseException) -> int | None:
    """Return the number of the operating system's error that says the same as an exception.

    None if there is none, or if it is not known to be lasting.
    """
    reply = _ftp_reply(error)
    if reply is not None:
        return _number_of_reply(reply, isinstance(error, FileNotFoundError))
    status = getattr(error, "ntstatus", None) or getattr(error, "status", None)
    if is_named(error, _SMB_BY_NAME) and status in _SMB_STATUSES:
        return _SMB_STATUSES[status]
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    if isinstance(error, PermissionError):
        return errno.EACCES
    if isinstance(error, (ssl.SSLError, gaierror)):
        return None  # their numbers are OpenSSL's and the resolver's: 1 and 2 among them
    held = getattr(error, "os_error", None)  # aiohttp, which takes over the number
    if isinstance(held, OSError):
        return number_of(held)
    return error.errno if isinstance(error, OSError) else None


def unreachable(error: BaseException) -> BaseException | None:
    """Return the cause of an exception that says that a server cannot be reached; None if none."""
    return next((each for each in causes(error) if _is_unreachable(each)), None)


def _is_unreachable(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, gaierror)):
        return True
    return isinstance(error, OSError) and number_of(error) in _UNREACHABLE


def is_disconnected(error: BaseException) -> bool:
    """Return True if an exception means that the connection to a server is lost or out of step."""
    reply = _ftp_reply(error)
    if reply is not None:
        return not re.match("45[0-9]|5", reply)
    lost = (EOFError, ConnectionError, TimeoutError, gaierror, ssl.SSLError)
    return any(
        isinstance(each, lost) or _is_unreachable(each) or _is_of_closed_ssh(each)
        for each in causes(error)
    )


def _is_of_closed_ssh(error: BaseException) -> bool:
    return is_named(error, _SSH_BY_NAME) or str(error) == "Socket is closed"  # both of paramiko


def _ftp_reply(error: BaseException) -> str | None:
    """Return the reply of a FTP server that an exception is about.

    fsspec makes FileNotFoundError of every one that it gets to a listing or to a whole file.
    """
    chain = _chain(error) if isinstance(error, FileNotFoundError) else [error]
    return next((str(each) for each in chain if is_named(each, _FTP_BY_NAME)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _number_of_reply(reply: str, is_missing: bool) -> int | None:
    """Return the number for a reply; `is_missing` if the filesystem takes the file for missing."""
    code = reply[:3]
    if code in ("550", "553"):
        for words, number in _FTP_WORDS:
            if re.search(words, reply, re.IGNORECASE):
                return number
    lasting = is_missing and code.startswith("5")
    return _FTP_REPLIES.get(code, errno.ENOENT if lasting else None)


def is_named(error: BaseException, names: frozenset[str]) -> bool:
    """Return True if a class of an exception has one of these names, without its import."""
    return any(cls.__name__ in names for cls in type(error).__mro__)
