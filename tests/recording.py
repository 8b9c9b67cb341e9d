"""Requests that the S3 server answers during a test."""

from __future__ import annotations

from collections import Counter

from fsspill.testing.s3_server import Request, S3Server


class RequestRecorder:
    """The requests that the server has answered since the last call, or since this was made."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._seen = len(server.requests())

    def methods(self) -> Counter[str]:
        """Return the number of new requests by their method."""
        return Counter(request.method for request in self.requests())

    def requests(self) -> list[Request]:
        """Return the new requests."""
        requests = self._server.requests()[self._seen :]
        self._seen += len(requests)
        return requests
