"""The HTTP answer that an exception of a filesystem carries, and what it means for a retry.

Filesystems agree on neither classes nor texts: s3fs keeps the answer in the cause, adlfs in
attributes, gcsfs and obstore only in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["HttpAnswer", "causes"]

_MAX_CAUSES = 8

_STATUS_ATTRIBUTES = ("status_code", "status", "code")

_NO_HTTP = "HttpProcessingError"
"""Class of aiohttp's errors about what is no HTTP, or not all of it."""

# Patterns are compiled when the first error needs them: an import should cost little.
_OF_OBSTORE = r"status code: (\d{3})|incorrectly configured (region)"
_CODE_IN_XML = r"<Code>([\w.]{1,99})</Code>"

_REGION_IN_XML = r"<Region>([\w-]{1,99})</Region>"

_OF_GCSFS = {"Forbidden: ": (OSError, 403), "Bad Request: ": (ValueError, 400)}
"""Beginnings of gcsfs's texts, the only trace of these statuses, with the class of each."""

_TEMPORARY = frozenset({408, 423, 425, 429})
"""Statuses of 400 to 499 that another attempt may change; 423 is a lock of WebDAV."""

_THROTTLED = frozenset({429, 503})

_PERMANENT_BEYOND = frozenset({301, 302, 303, 305, 308, 501, 505, 507, 511})
"""Statuses outside of 400 to 499 that another attempt does not change."""

# botocore's codes of throttling and of time-outs, those of MinIO, Azure and Google, and two of S3
# for a conflict with another request that is in flight.
_SLOW_DOWN = (
    r"(KMS\.)?(EC2|Request)?Thrott(ling|led)(Exception)?"
    r"|(Bandwidth|Request|ProvisionedThroughput)?LimitExceeded(Exception)?"
    r"|ProvisionedThroughputExceededException|(user)?[rR]ateLimitExceeded"
    r"|SlowDown(Read|Write)?|TooManyRequests(Exception)?|ServerBusy|ServiceUnavailable"
    r"|RequestTimeout(Exception)?|OperationTimedOut|PriorRequestNotComplete"
    r"|TransactionInProgressException|OperationAborted|ConditionalRequestConflict"
    r"|IDPCommunicationError|InternalError|(KMS\.)?(KMSInternal|DependencyTimeout)Exception"
    r"|XAmzContentSHA256Mismatch|XMinioServerNotInitialized"
)
_FULL_CODE = "(?i)quota.*exceed|storage.*full|insufficient.*(storage|space)"
_FULL_WORDS = "(?i)(quota|storage cap).{0,40} exceeded|exceed.{0,40} quota"
_REGION = frozenset(
    {"IllegalLocationConstraintException", "IncorrectEndpoint", "PermanentRedirect"}
)


class HttpAnswer(NamedTuple):
    """An answer of a server that refused a request.

    Attributes
    ----------
    status : int
        Its status.
    code : str
        The storage's own code of the error, such as "NoSuchBucket"; empty if it is not known.
    message : str
        The storage's own words, if they are kept apart from the exception's text.
    region : str
        Region of the bucket, where the answer names it.
    is_page : bool
        True for a page of HTML, as proxies and consoles send, and no storage.
    """

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    is_page: bool = False

    @classmethod
    def of(cls, error: BaseException) -> HttpAnswer | None:
        """Return the answer that an exception, or one of its causes, carries; None without one.

        aiohttp gives status 400 to what it cannot parse, such as a body that is cut off: that is
        none of the server.
        """
        chain = list(causes(error))
        if any(cls.__name__ == _NO_HTTP for cause in chain for cls in type(cause).__mro__):
            return None
        for cause in chain:
            answer = _of_response(cause) or _of_attributes(cause) or _of_text(cause)
            if answer:
                return answer
        return None

    @property
    def is_full(self) -> bool:
        """True if there is no room: a quota, a cap, a full disk."""
        if self.status == 507:
            return True
        words = re.search(_FULL_CODE, self.code) or re.search(_FULL_WORDS, self.message)
        return bool(words) and self.is_permanent

    @property
    def is_slow_down(self) -> bool:
        """True if the same request may be made again after a pause, whatever the status."""
        return bool(re.fullmatch(_SLOW_DOWN, self.code))

    @property
    def is_throttled(self) -> bool:
        """True if the server has too much to do, or too much for this client."""
        return self.status in _THROTTLED or self.is_slow_down

    @property
    def is_permanent(self) -> bool:
        """True if another attempt of the request gets the same answer."""
        if self.is_slow_down or self.status in _TEMPORARY:
            return False
        return 400 <= self.status < 500 or self.status in _PERMANENT_BEYOND

    @property
    def is_of_other_region(self) -> bool:
        """True if the bucket is elsewhere."""
        malformed = self.code == "AuthorizationHeaderMalformed"
        return self.code in _REGION or (malformed and bool(self.region))

    def __str__(self) -> str:
        region = f"region of the bucket {self.region}" if self.region else ""
        code = "" if self.code == str(self.status) else self.code
        page = "a page of HTML" if self.is_page else ""
        return ", ".join(filter(None, [f"HTTP {self.status}", code, region, page]))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from, the outermost first."""
    link: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if link is None:
            return
        yield link
        # adlfs raises FileExistsError for a status of 409 while it handles the true error.
        exists = isinstance(link, FileExistsError)
        link = link.__cause__ or (link.__context__ if exists else None) or _held(link)


def _held(error: BaseException) -> BaseException | None:
    """Return the error that one of botocore keeps in an attribute, such as that of a proxy."""
    held = (getattr(error, "kwargs", None) or {}).get("error")
    return held if isinstance(held, BaseException) else None


def _of_response(error: BaseException) -> HttpAnswer | None:
    """Return the answer of a ClientError of botocore."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None
    metadata = response.get("ResponseMetadata") or {}
    status = metadata.get("HTTPStatusCode")
    if not isinstance(status, int):
        return None
    details, headers = response.get("Error") or {}, metadata.get("HTTPHeaders") or {}
    code = str(details.get("Code") or "")
    # Answers to HEAD have no body. Some servers declare all of theirs to be HTML.
    has_body = not str(getattr(error, "operation_name", "")).startswith("Head")
    return HttpAnswer(
        status,
        code,
        str(details.get("Message") or ""),
        str(details.get("Region") or headers.get("x-amz-bucket-region") or ""),
        is_page=has_body and _is_html(headers.get("content-type")) and code in ("", str(status)),
    )


def _of_attributes(error: BaseException) -> HttpAnswer | None:
    """Return the answer of an error of azure.core, gcsfs, aiohttp or requests."""
    for holder in (error, getattr(error, "response", None)):
        for attribute in _STATUS_ATTRIBUTES:
            status = getattr(holder, attribute, None)
            if isinstance(status, int) and 100 <= status < 600:
                headers = getattr(getattr(error, "response", None), "headers", None) or {}
                code = _code_of(error)
                is_page = _is_html(headers.get("Content-Type")) and not code
                return HttpAnswer(status, code, "" if is_page else str(error), "", is_page)
    return None


def _code_of(error: BaseException) -> str:
    code: Any = getattr(error, "error_code", None)  # azure.core: a string, or an Enum of strings
    if code:
        return str(getattr(code, "value", code))
    reasons = (getattr(error, "_error_response", None) or {}).get("errors") or [{}]  # gcsfs
    first = reasons[0]
    return str(first.get("reason") or "") if isinstance(first, Mapping) else ""


def _of_text(error: BaseException) -> HttpAnswer | None:
    text = str(error)
    if "Debug source:" in text:  # obstore, also where its class is Python's own
        found = re.search(_OF_OBSTORE, text)
        code, region = re.search(_CODE_IN_XML, text), re.search(_REGION_IN_XML, text)
        if found and found[1]:
            return HttpAnswer(
                int(found[1]),
                code[1] if code else "",
                region=region[1] if region else "",
                is_page="<html" in text,
            )
        return HttpAnswer(301, "PermanentRedirect") if found else None
    for beginning, (cls, status) in _OF_GCSFS.items():
        if type(error) is cls and text.startswith(beginning):
            message = text.partition("\n")[2]
            slow = "rateLimitExceeded" if "rate limit" in message.lower() else ""
            return HttpAnswer(status, slow, message, "", "<html" in message.lower())
    return None


def _is_html(content_type: object) -> bool:
    return "html" in str(content_type or "").lower()
