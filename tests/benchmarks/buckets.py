"""The part of S3's API that spilling needs, over buckets in memory. Does no I/O.

Objects are stored as the request bodies received: a multipart upload completes without a copy.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.benchmarks.http_server import Request, Response

__all__ = ["Buckets", "decode_aws_chunked"]

_OPERATIONS = {
    ("HEAD", "bucket", ""): "HeadBucket",
    ("PUT", "bucket", ""): "CreateBucket",
    ("GET", "bucket", "list-type"): "ListObjectsV2",
    ("GET", "bucket", "uploads"): "ListMultipartUploads",
    ("POST", "bucket", "delete"): "DeleteObjects",
    ("PUT", "object", ""): "PutObject",
    ("GET", "object", ""): "GetObject",
    ("HEAD", "object", ""): "HeadObject",
    ("DELETE", "object", ""): "DeleteObject",
    ("POST", "object", "uploads"): "CreateMultipartUpload",
    ("PUT", "object", "uploadId"): "UploadPart",
    ("POST", "object", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "object", "uploadId"): "AbortMultipartUpload",
}
_SUBRESOURCES = ("list-type", "delete", "uploads", "uploadId")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
_TIME = "2026-01-01T00:00:00.000Z"


class _Stored(NamedTuple):
    etag: str
    segments: Sequence[bytearray]

    @property
    def size(self) -> int:
        return sum(map(len, self.segments))

    def views(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield views of the bytes from `start` to `stop`."""
        ends = list(accumulate(map(len, self.segments)))
        for index in range(bisect_right(ends, start), len(ends)):
            begin = ends[index] - len(self.segments[index])
            if begin >= stop:
                break
            yield memoryview(self.segments[index])[max(0, start - begin) : stop - begin]


class _Upload(NamedTuple):
    bucket: str
    key: str
    parts: dict[int, _Stored]


class Buckets:
    """Buckets with their objects and multipart uploads.

    Attributes
    ----------
    requests : Counter
        Number of requests, by S3's name of the operation.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._buckets: dict[str, dict[str, _Stored]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._handlers: Mapping[str, Callable[[str, str, Request], Response]] = {
            "HeadBucket": self._head_bucket,
            "CreateBucket": self._create_bucket,
            "ListObjectsV2": self._list,
            "ListMultipartUploads": self._list_uploads,
            "DeleteObjects": self._delete_many,
            "PutObject": self._put,
            "GetObject": self._get,
            "HeadObject": self._head,
            "DeleteObject": self._delete,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
        }

    def clear(self) -> None:
        """Remove all objects, uploads and counts; buckets remain."""
        self.requests.clear()
        self._uploads.clear()
        for objects in self._buckets.values():
            objects.clear()

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        bucket, _, key = request.path.lstrip("/").partition("/")
        operation = _operation(request, key)
        self.requests[operation] += 1
        if operation not in self._handlers:
            return _error(501, "NotImplemented")
        if operation != "CreateBucket" and bucket not in self._buckets:
            return _error(404, "NoSuchBucket")
        return self._handlers[operation](bucket, key, request)

    def _head_bucket(self, bucket: str, key: str, request: Request) -> Response:
        return Response()

    def _create_bucket(self, bucket: str, key: str, request: Request) -> Response:
        self._buckets.setdefault(bucket, {})
        return Response()

    def _list(self, bucket: str, key: str, request: Request) -> Response:
        objects = self._buckets[bucket]
        keys = sorted(key for key in objects if key.startswith(request.query.get("prefix", "")))
        contents = "".join(_contents(key, objects[key]) for key in keys)
        return _xml(
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(keys)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )

    def _list_uploads(self, bucket: str, key: str, request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        uploads = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{_TIME}</Initiated></Upload>"
            for upload_id, upload in self._uploads.items()
            if upload.bucket == bucket and upload.key.startswith(prefix)
        )
        return _xml(
            f"<ListMultipartUploadsResult><Bucket>{bucket}</Bucket>"
            f"<IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        )

    def _delete_many(self, bucket: str, key: str, request: Request) -> Response:
        keys = [element.text or "" for element in _elements(_body(request), "Key")]
        for deleted in keys:
            self._buckets[bucket].pop(deleted, None)
        results = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return _xml(f"<DeleteResult>{results}</DeleteResult>")

    def _put(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._buckets[bucket][key] = _new([_body(request)])
        return Response(headers={"ETag": stored.etag})

    def _get(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._buckets[bucket].get(key)
        if stored is None:
            return _error(404, "NoSuchKey")
        if "range" not in request.headers:
            return Response(200, _headers(stored), list(stored.views(0, stored.size)))
        start, stop = _parse_range(request.headers["range"], stored.size)
        if start >= stop:
            actual = f"<ActualObjectSize>{stored.size}</ActualObjectSize>"
            headers = {"Content-Range": f"bytes */{stored.size}"}
            return _error(416, "InvalidRange", actual)._replace(headers=headers)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{stored.size}"}
        return Response(206, _headers(stored) | headers, list(stored.views(start, stop)))

    def _head(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._buckets[bucket].get(key)
        if stored is None:
            return Response(404)
        return Response(200, _headers(stored), length=stored.size)

    def _delete(self, bucket: str, key: str, request: Request) -> Response:
        self._buckets[bucket].pop(key, None)
        return Response(204)

    def _create_upload(self, bucket: str, key: str, request: Request) -> Response:
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = _Upload(bucket, key, {})
        return _xml(
            f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
            f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
        )

    def _upload_part(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        part = upload.parts[int(request.query["partNumber"])] = _new([_body(request)])
        return Response(headers={"ETag": part.etag})

    def _complete_upload(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        parts = upload.parts
        numbers = [int(e.text or 0) for e in _elements(_body(request), "PartNumber")]
        if not numbers or not set(numbers) <= set(parts):
            return _error(400, "InvalidPart")
        stored = _new([segment for number in numbers for segment in parts[number].segments])
        self._buckets[bucket][key] = stored
        del self._uploads[request.query["uploadId"]]
        return _xml(
            f"<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
            f"<ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>"
        )

    def _abort_upload(self, bucket: str, key: str, request: Request) -> Response:
        self._uploads.pop(request.query["uploadId"], None)
        return Response(204)


def decode_aws_chunked(raw: bytearray) -> bytearray:
    """Return the content of a body with ``Content-Encoding: aws-chunked``.

    Notes
    -----
    Ignores signatures and trailing checksums.
    """
    body = bytearray()
    position = 0
    while True:
        start = raw.index(b"\r\n", position) + 2
        size = int(raw[position : start - 2].partition(b";")[0], 16)
        if not size:
            return body
        body += memoryview(raw)[start : start + size]
        position = start + size + 2


def _operation(request: Request, key: str) -> str:
    level = "object" if key else "bucket"
    subresource = next((name for name in _SUBRESOURCES if name in request.query), "")
    return _OPERATIONS.get((request.method, level, subresource), "unknown")


def _body(request: Request) -> bytearray:
    if "aws-chunked" in request.headers.get("content-encoding", ""):
        return decode_aws_chunked(request.body)
    return request.body


def _new(segments: Sequence[bytearray]) -> _Stored:
    # Not the MD5 of the body, which no client checks and which takes a second per GiB.
    return _Stored(f'"{uuid.uuid4().hex}"', segments)


def _parse_range(value: str, size: int) -> tuple[int, int]:
    """Return start and stop in bytes; an empty range if the request cannot be satisfied."""
    match = _RANGE.fullmatch(value)
    if match is None:
        return 0, 0
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _headers(stored: _Stored) -> dict[str, str]:
    return {
        "ETag": stored.etag,
        "Last-Modified": _LAST_MODIFIED,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }


def _contents(key: str, stored: _Stored) -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified>"
        f"<ETag>{escape(stored.etag)}</ETag><Size>{stored.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _elements(body: bytearray, name: str) -> list[ElementTree.Element]:
    # Not all clients send S3's namespace.
    return ElementTree.fromstring(body).findall(f".//{{*}}{name}")


def _error(status: int, code: str, detail: str = "") -> Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message>{detail}</Error>", status)


def _xml(text: str, status: int = 200) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
    return Response(status, {"Content-Type": "application/xml"}, [body])
