"""Requests of S3 that have a body, with a checksum where the server demands one."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

from fsspill.http_answer import HttpAnswer
from fsspill.log import get_logger
from fsspill.storage.internals import stop_automatic_md5
from fsspill.storage.upload_body import UploadBody

__all__ = ["BodySender"]

logger = get_logger(__name__)

_DEMAND = re.compile("content-md5|x-amz-checksum|x-amz-sdk-checksum", re.IGNORECASE)


class BodySender:
    """Sender of bodies to one bucket.

    Parameters
    ----------
    fs : s3fs.S3FileSystem
        The filesystem.

    Notes
    -----
    A body goes without a checksum until the server demands one, as S3 does in a bucket with Object
    Lock. From then on each has its MD5, which all servers know: 1.8 CPU seconds per GiB (measured),
    in a thread. The blocks of a file have digests of their own in any case.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._with_checksum = False
        self._client: Any = None

    async def send(self, operation: str, body: Any, **arguments: Any) -> Any:
        """Make a request with a body, and return the answer."""
        await self._stop_automatic_md5(arguments.get("Bucket"))
        if self._with_checksum:
            return await self._send_checked(operation, body, arguments)
        try:
            return await self._fs._call_s3(operation, Body=body, **arguments)
        except Exception as error:
            if not _demands_checksum(error):
                raise
        logger.info("%s demands checksums: each body has its MD5", arguments.get("Bucket"))
        self._with_checksum = True
        return await self._send_checked(operation, body, arguments)

    async def _stop_automatic_md5(self, bucket: str | None) -> None:
        """Keep older releases of botocore from computing a checksum of every body by themselves."""
        await self._fs.set_session()
        client = await self._fs.get_s3(bucket)
        if client is not self._client:
            stop_automatic_md5(client)
            self._client = client

    async def _send_checked(self, operation: str, body: Any, arguments: dict[str, Any]) -> Any:
        checked = body if isinstance(body, UploadBody) else UploadBody([body])
        digest = base64.b64encode(await asyncio.to_thread(checked.md5)).decode()
        return await self._fs._call_s3(operation, Body=body, ContentMD5=digest, **arguments)


def _demands_checksum(error: Exception) -> bool:
    answer = HttpAnswer.of(error)
    words = f"{answer.code} {answer.message}".replace("ContentMD5", "Content-MD5") if answer else ""
    return answer is not None and answer.status == 400 and bool(_DEMAND.search(words))
