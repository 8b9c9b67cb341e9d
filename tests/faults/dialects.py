"""The ways of other servers than moto's, for `tests.faults.fault_proxy.FaultProxy`."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote, urlsplit

from tests.faults.fault_proxy import Answer, Call, Dialect

__all__ = [
    "DemandsChecksums",
    "DemandsHeaders",
    "DirectoryBucket",
    "EqualParts",
    "Fixed",
    "HierarchicalNamespace",
    "HostsPerBucket",
    "IgnoresRanges",
    "Late",
    "OtherRegion",
    "PartsWithoutTags",
    "ShortPages",
    "StaleListings",
    "answer_with_code",
    "is_listing",
]


_NO_CHECKSUM = (
    "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object "
    "Lock parameters"
)
_UNEQUAL = "All non-trailing parts must have the same length."


def answer_with_code(
    status: int, code: str, more: str = "", message: str = "Reason", **headers: str
) -> Answer:
    """Return an error as S3 answers it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    kind = {"Content_Type": "application/xml", **headers}
    return Answer.of(status, body.encode(), **kind)


def is_listing(call: Call) -> bool:
    """Return True if a request lists a bucket."""
    return call.method == "GET" and "list-type=" in call.path


class Fixed(Dialect):
    """A server that gives the same answer to all requests, or to some.

    Parameters
    ----------
    make : callable
        Returns the answer.
    where : callable, optional
        Returns True for the requests that get it.
    """

    def __init__(
        self, make: Callable[[], Answer], where: Callable[[Call], bool] = lambda call: True
    ) -> None:
        self._make = make
        self._where = where

    def answer(self, call: Call) -> Answer | None:
        """Return the answer."""
        return self._make() if self._where(call) else None


class Late(Dialect):
    """A server that takes two seconds more for some requests.

    Parameters
    ----------
    where : callable
        Returns True for these.
    """

    def __init__(self, where: Callable[[Call], bool]) -> None:
        self._where = where

    def alter(self, call: Call, answer: Answer) -> None:
        """Hold an answer back."""
        if self._where(call):
            time.sleep(2.0)


class EqualParts(Dialect):
    """R2, which takes no multipart upload whose parts differ in length, the last one excepted.

    Attributes
    ----------
    sizes : dict
        Lengths of the parts of each upload, by number.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, dict[int, int]] = {}

    def answer(self, call: Call) -> Answer | None:
        """Note the length of a part, and refuse to complete an upload of unequal ones."""
        query = {name: value for name, [value, *_] in call.query.items()}
        if call.method == "PUT" and "partNumber" in query:
            framed = call.headers.get("x-amz-decoded-content-length")
            sizes = self.sizes.setdefault(query["uploadId"], {})
            sizes[int(query["partNumber"])] = int(framed or len(call.body))
        if call.method != "POST" or "uploadId" not in query:
            return None
        _, *others = sorted(self.sizes[query["uploadId"]].items(), reverse=True)
        if len({size for _, size in others}) < 2:
            return None
        return answer_with_code(400, "InvalidPart", message=_UNEQUAL)


class DemandsChecksums(Dialect):
    """A bucket with Object Lock, and a default retention: each body must have a checksum.

    Parameters
    ----------
    code, message : str
        Those of the refusal.
    """

    def __init__(self, code: str = "InvalidRequest", message: str = "") -> None:
        self._refusal = code, message or _NO_CHECKSUM

    def answer(self, call: Call) -> Answer | None:
        """Refuse a body without a checksum, and one that has another."""
        if call.method != "PUT":
            return None
        given = call.headers.get("Content-MD5")
        if given is None:
            return answer_with_code(400, self._refusal[0], message=self._refusal[1])
        right = base64.b64encode(hashlib.md5(call.body).digest()).decode()
        return None if given == right else answer_with_code(400, "BadDigest")


class DemandsHeaders(Dialect):
    """A server that refuses requests without some headers.

    Parameters
    ----------
    headers : mapping
        Their values.
    where : callable
        Returns True for the requests that must have them.
    """

    def __init__(
        self, headers: Mapping[str, str], where: Callable[[Call], bool] = lambda call: True
    ) -> None:
        self._headers = headers
        self._where = where

    def answer(self, call: Call) -> Answer | None:
        """Refuse a request without them."""
        has_all = all(call.headers.get(name) == value for name, value in self._headers.items())
        if has_all or not self._where(call):
            return None
        return answer_with_code(403, "AccessDenied", message=f"{call.method} {call.path}")


class DirectoryBucket(Dialect):
    """S3 Express One Zone: sessions, and listings of directories alone."""

    def answer(self, call: Call) -> Answer | None:
        """Give credentials for a session, and refuse what directory buckets do not have."""
        if "session" in call.query:
            until = datetime.now(timezone.utc) + timedelta(minutes=5)
            body = (
                "<CreateSessionResult><Credentials><SessionToken>token</SessionToken>"
                "<SecretAccessKey>secret</SecretAccessKey><AccessKeyId>id</AccessKeyId>"
                f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
                "</CreateSessionResult>"
            )
            return Answer.of(200, body.encode(), Content_Type="application/xml")
        if call.headers.get("x-amz-s3session-token") != "token":
            return answer_with_code(403, "AccessDenied", message="without a session")
        if "versions" in call.query:
            return answer_with_code(501, "NotImplemented")
        [prefix] = call.query.get("prefix", [""])
        if call.method != "GET" or not prefix or prefix.endswith("/"):
            return None
        return answer_with_code(400, "InvalidRequest", message="a prefix must end in a delimiter")


class HierarchicalNamespace(Dialect):
    """Azure with a hierarchical namespace (ADLS Gen2), where directories are blobs.

    They come into being with the first file in them and stay when the last one is deleted; one that
    is not empty is not deleted.

    Parameters
    ----------
    connection_string : str
        Reaches the server itself.
    """

    def __init__(self, connection_string: str) -> None:
        from azure.storage.blob import BlobServiceClient

        self._service = BlobServiceClient.from_connection_string(connection_string)
        self._directories: set[tuple[str, str]] = set()

    def names(self, container: str) -> list[str]:
        """Return the names of all blobs of a container, directories included."""
        return list(self._service.get_container_client(container).list_blob_names())

    def answer(self, call: Call) -> Answer | None:
        """Refuse to delete a directory that is not empty."""
        container, name = self._blob(call)
        if call.method != "DELETE" or (container, name) not in self._directories:
            return None
        if any(found.startswith(f"{name}/") for found in self.names(container)):
            return Answer.of(409, x_ms_error_code="DirectoryIsNotEmpty")
        self._directories.discard((container, name))
        return None

    def alter(self, call: Call, answer: Answer) -> None:
        """Make the directories of a blob that was written."""
        container, name = self._blob(call)
        if call.method != "PUT" or answer.status != 201 or "/" not in name:
            return
        parts = name.split("/")[:-1]
        for directory in ("/".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if (container, directory) not in self._directories:
                self._directories.add((container, directory))
                self._service.get_blob_client(container, directory).upload_blob(
                    b"", metadata={"hdi_isfolder": "true"}, overwrite=True
                )

    def _blob(self, call: Call) -> tuple[str, str]:
        """Return the container and the name that a call is about."""
        _, _, path = urlsplit(call.path).path.strip("/").partition("/")
        container, _, name = unquote(path).partition("/")
        return container, name


class HostsPerBucket(Dialect):
    """A forward proxy before AWS, where the host names the bucket or the access point.

    Parameters
    ----------
    host : str
        Of the server behind it.

    Attributes
    ----------
    hosts : set of str
        The hosts that were asked for.
    """

    def __init__(self, host: str) -> None:
        self.hosts: set[str] = set()
        self._host = host

    def answer(self, call: Call) -> None:
        """Put the bucket into the path, where the server expects it."""
        host, path = re.fullmatch(r"http://([^/?]+)(.*)", call.path).groups()  # type: ignore[union-attr]
        self.hosts.add(host)
        bucket = re.fullmatch(r"(?:([\w-]+?)(?:-123456789012)?\.)?s3[.-].*", host)
        call.path = f"/{bucket[1]}{path}" if bucket and bucket[1] else path
        call.headers.replace_header("Host", self._host)


class PartsWithoutTags(Dialect):
    """A proxy that leaves out the ETag of a part."""

    def alter(self, call: Call, answer: Answer) -> None:
        """Drop the header."""
        if "partNumber" in call.query:
            del answer.headers["ETag"]


class IgnoresRanges(Dialect):
    """A proxy that answers with the whole object when a range is asked for."""

    def answer(self, call: Call) -> None:
        """Drop the header."""
        del call.headers["Range"]


class OtherRegion(Dialect):
    """S3 in one region, which sends away requests that are signed for another one.

    Parameters
    ----------
    region : str
        The region.
    status : {301, 400}
        Of the answer: S3 has both.
    """

    def __init__(self, region: str, status: int = 301) -> None:
        self._region = region
        self._status = status
        self.refused: list[Call] = []

    def answer(self, call: Call) -> Answer | None:
        """Refuse what is signed for another region."""
        if f"/{self._region}/s3/aws4_request" in call.headers.get("Authorization", ""):
            return None
        self.refused.append(call)
        code = {301: "PermanentRedirect", 400: "AuthorizationHeaderMalformed"}[self._status]
        more = f"<Region>{self._region}</Region>"
        return answer_with_code(self._status, code, more, x_amz_bucket_region=self._region)

    def alter(self, call: Call, answer: Answer) -> None:
        """Name the region to who asks for it."""
        if call.method == "HEAD":
            del answer.headers["x-amz-bucket-region"]
            answer.headers["x-amz-bucket-region"] = self._region


class ShortPages(Dialect):
    """A storage whose pages of a listing have few keys, unless fewer are asked for.

    Parameters
    ----------
    count : int
        How many; S3 has 1000.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def answer(self, call: Call) -> None:
        """Ask the server for pages of that length."""
        if is_listing(call) and "max-keys" not in call.query:
            call.path += f"&max-keys={self._count}"


class StaleListings(Dialect):
    """A storage whose listings are empty, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def answer(self, call: Call) -> Answer | None:
        """Return an empty listing."""
        if not is_listing(call) or self.times < 1:
            return None
        self.times -= 1
        return Answer.of(200, b"<ListBucketResult></ListBucketResult>")
