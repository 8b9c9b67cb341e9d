"""The versions of objects that a bucket of S3 keeps after their deletion.

Where versioning is on (B2 knows nothing else), a deletion only adds a delete marker, and all that
was ever written stays and is billed. A deletion that names the version removes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fsspill.errors import StoragePermissionError, is_transient, translate
from fsspill.log import get_logger
from fsspill.storage.layout import split_version

__all__ = ["OLD_SIZE", "ObjectVersions"]

logger = get_logger(__name__)

OLD_SIZE = "old_size"
"""Key of a size that `ObjectVersions.find` finds: of all versions of a file but the newest."""

NULL = "null"
"""Version of an object that was written while versioning was off."""


class ObjectVersions:
    """Knowledge of one process about the versions that a bucket keeps.

    Parameters
    ----------
    fs : s3fs.S3FileSystem
        The filesystem.

    Attributes
    ----------
    are_kept : bool
        True once an answer has shown that the bucket keeps old versions.
    are_deletable : bool
        False once the credentials were refused to delete a version.
    """

    def __init__(self, fs: Any) -> None:
        self.are_kept = False
        self.are_deletable = True
        self._fs = fs
        self._are_listed = True
        self._found: dict[str, list[str]] = {}

    @property
    def are_listed(self) -> bool:
        """True if `find` can be of use."""
        return self.are_kept and self.are_deletable and self._are_listed

    def note(self, answer: Any) -> str:
        """Note what an answer says of versions, and return the version that it names, or ""."""
        if not isinstance(answer, Mapping):
            return ""
        version = str(answer.get("VersionId") or "")
        # A bucket that never had versioning names none, or this one.
        if answer.get("DeleteMarker") or (version and version != NULL):
            self.are_kept = True
        return version if self.are_kept else ""

    def split(self, path: str) -> tuple[str, list[str]]:
        """Return a path, and the versions that a deletion of it has to name; [""] for none."""
        path, version = split_version(path)
        if not self.are_deletable:
            return path, [""]
        return path, [version] if version else self._found.get(path) or [""]

    def forget(self, path: str) -> None:
        """Drop what `find` has found of a file, which is deleted."""
        self._found.pop(path, None)

    def is_denied(self, error: Exception) -> bool:
        """Return True if the deletion of a version failed because permission is lacking."""
        return isinstance(translate(error, "", ""), StoragePermissionError)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Delete files without their versions from now on, unless the block raises.

        Credentials that have expired are refused any deletion, and may be renewed.
        """
        self.are_deletable = False
        try:
            yield
        except BaseException:
            self.are_deletable = True
            raise

    async def find(self, bucket: str, prefix: str) -> dict[str, Mapping[str, Any]]:
        """Return the files of which any version is kept, by path.

        The size of a file is the sum of those of its versions; under `OLD_SIZE` is what is old.

        One request for 1000 versions. {} where the credentials or the server do not list them;
        raises what may pass.
        """
        found: dict[str, dict[str, Any]] = {}
        query = {"Bucket": bucket, "Prefix": prefix}
        while True:
            try:
                answer = await self._fs._call_s3("list_object_versions", **query)
            except Exception as error:
                failure = translate(error, "cannot list the old versions in", bucket)
                if is_transient(failure):
                    raise
                self._are_listed = False
                logger.warning("%s", failure)
                return {}
            for version in (answer.get("Versions") or []) + (answer.get("DeleteMarkers") or []):
                self._add(found, f"{bucket}/{version['Key']}", version)
            page = {
                "KeyMarker": answer.get("NextKeyMarker") or "",
                "VersionIdMarker": answer.get("NextVersionIdMarker") or "",
            }
            if not answer.get("IsTruncated") or page.items() <= query.items():
                return dict(found)
            query.update(page)

    def _add(self, found: dict[str, dict[str, Any]], path: str, version: Mapping[str, Any]) -> None:
        if path not in found:
            found[path] = {"name": path, "type": "file", "LastModified": None}
            found[path] |= {"size": 0, OLD_SIZE: 0}
            self._found[path] = []
        info, modified = found[path], version.get("LastModified")
        nbytes = version.get("Size") or 0
        info["size"] += nbytes
        info[OLD_SIZE] += 0 if version.get("IsLatest") else nbytes
        if info["LastModified"] is None or (modified and modified > info["LastModified"]):
            info["LastModified"] = modified
        self._found[path].append(version["VersionId"])
