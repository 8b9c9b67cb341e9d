"""Spellings of URIs that consoles show and other programs use, and the URI that each stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from fsspec.registry import known_implementations, registry

from fsspill.storage.protocols import PROTOCOLS, traits_of

__all__ = ["SPELLINGS", "Spelling", "describe_spelling", "is_like_uri"]


@dataclass(frozen=True)
class Spelling:
    """One spelling that is not used, and what to use instead.

    Attributes
    ----------
    name : str
        What has this spelling.
    pattern : str
        Regular expression of the whole text.
    uri : str
        The URI to use instead, with references to the groups of the pattern; empty if there is
        none.
    remark : str
        What else there is to know or to do, with references to the groups.
    """

    name: str
    pattern: str
    uri: str = ""
    remark: str = ""


_HTTP = r"(?i:https?)://"
_AWS = r"(?:[\w-]+\.)*amazonaws\.com(?:\.cn)?(?::\d+)?"
_ENDPOINT = r"Set AWS_ENDPOINT_URL={} on every node."
_MOUNT = "Mount it on every node, and spill to its directory with shared=True."

SPELLINGS = (
    Spelling(
        "AWS console",
        rf"{_HTTP}[\w.-]*console\.aws\.amazon\.com/s3/\w+/([\w.-]+)[^#]*?[?&]prefix=([^&#]*).*",
        r"s3://\1/\2",
    ),
    Spelling(
        "AWS console", rf"{_HTTP}[\w.-]*console\.aws\.amazon\.com/s3/\w+/([\w.-]+).*", r"s3://\1"
    ),
    Spelling(
        "S3 URL, host per bucket",
        rf"{_HTTP}([\w.-]+?)\.s3[.-]{_AWS}(/[^?#]*)?.*",
        r"s3://\1\2",
    ),
    Spelling("S3 URL, host per region", rf"{_HTTP}s3[.-]{_AWS}/([^?#]+).*", r"s3://\1"),
    Spelling("S3 URI, host of AWS", rf"s3a?://([\w.-]+?)\.s3[.-]{_AWS}(/.*)?", r"s3://\1\2"),
    Spelling("S3 URI, host of AWS", rf"s3a?://s3[.-]{_AWS}/(.+)", r"s3://\1"),
    Spelling(
        "S3 URI, endpoint",
        r"s3a?://([\w.-]+:\d+)/(.+)",
        r"s3://\2",
        _ENDPOINT.format(r"http://\1, or https://\1,"),
    ),
    Spelling("Amazon resource name", r"arn:aws[\w-]*:s3:::([^*]+?)(?:/\*)?", r"s3://\1"),
    Spelling("access point", r"(arn:aws[\w-]*:s3[\w-]*:.+)", r"s3://\1"),
    Spelling(
        "Google Cloud console",
        rf"{_HTTP}console\.cloud\.google\.com/storage/browser/(?:_details/)?([^?;#]+).*",
        r"gs://\1",
    ),
    Spelling(
        "Google Cloud Storage URL",
        rf"{_HTTP}storage\.(?:googleapis|cloud\.google)\.com/([^?#]+).*",
        r"gs://\1",
    ),
    Spelling(
        "Google Cloud Storage URL, host per bucket",
        rf"{_HTTP}([\w.-]+)\.storage\.googleapis\.com(/[^?#]*)?.*",
        r"gs://\1\2",
    ),
    Spelling(
        "Azure URL",
        rf"{_HTTP}(\w+)\.(?:blob|dfs)(\.core\.[\w.]+)/([\w$-]+)(/[^?#]*)?.*",
        r"abfs://\3@\1.dfs\2\4",
    ),
    Spelling(
        "URL of a bucket at an endpoint",
        rf"({_HTTP}[\w.-]*(?:r2\.cloudflarestorage|backblazeb2|digitaloceanspaces|wasabisys"
        r"|aliyuncs|myqcloud|scw|linodeobjects|ovh)\.\w+(?::\d+)?)/([^/?#]+[^?#]*).*",
        r"s3://\2",
        _ENDPOINT.format(r"\1"),
    ),
    Spelling(
        "URL",
        rf"({_HTTP}[^/?#\s]*).*",
        "",
        "A web server takes no files. If it has an API like that of S3, name the bucket, as in "
        r"'s3://BUCKET/PREFIX', and set AWS_ENDPOINT_URL=\1 on every node.",
    ),
    Spelling("S3 in Hadoop", r"s3n://(.+)", r"s3://\1"),
    Spelling("Azure in Hadoop", r"wasbs?://([\w$-]+@\w+)\.blob\.(.+)", r"abfs://\1.dfs.\2"),
    Spelling("Azure", r"(?:azure|azblob|wasbs?)://(.+)", r"az://\1"),
    Spelling(
        "Azure Data Lake Gen1",
        r"adl://.*",
        "",
        "It was shut down in 2024; its successor is 'abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/"
        "PREFIX'.",
    ),
    Spelling(
        "store with an API like that of S3",
        r"(?:b2|bos|cosn?|do|ks3|minio|obs|r2|spaces|wasabi)://(.+)",
        r"s3://\1",
        _ENDPOINT.format("its endpoint"),
    ),
    Spelling("copy over SSH", r"(?:scp|rsync)://(.+)", r"sftp://\1"),
    Spelling("network file system", r"(?:nfs|cifs|afp|lustre)://.*", "", _MOUNT),
    Spelling(
        "WebDAV server",
        r"(?:web)?dav(s?)://([^/]*[.:][^/]*|localhost)(?:/(.*))?",
        "",
        "The server stands in storage_options, as in {'base_url': 'https://\\2'}, and only the "
        "path in the URI, as in 'webdav://PREFIX'.",
    ),
    Spelling(
        "filesystem that wraps another, or only reads",
        r"(?:\w*cache[d]?|dir|generic|async_?wrapper|reference|zip|tar|libarchive|data|git|github"
        r"|gist|dask|dvc|pyscript)://.*",
        "",
        "Name the storage itself, where files can be written and deleted.",
    ),
)  # fmt: skip
"""The spellings that have nothing in common; those with a fault of form follow from the protocols
that fsspec knows."""


def is_like_uri(text: str) -> bool:
    """Return True if `text` is, or was meant as, a URI rather than a directory.

    Ray takes it for the name of a directory otherwise. The hook has the same rule.
    """
    return bool(re.match(r"\s*[\"']?[A-Za-z][\w+.-]+:", text)) or "://" in text


def describe_spelling(text: str) -> str:
    """Return what to use instead of a spelling that is not used, or nothing if it is none.

    Parameters
    ----------
    text : str
        What was given as a URI.

    Returns
    -------
    str
        Sentences, such as "Did you mean 's3://bucket/x'?".
    """
    for spelling in SPELLINGS:
        match = re.fullmatch(spelling.pattern, text, re.ASCII)
        if match:
            uri = match.expand(spelling.uri) if spelling.uri else ""
            remark = match.expand(spelling.remark) if spelling.remark else ""
            return " ".join(filter(None, (_question(uri), remark)))
    return next((_question(uri) for uri in _well_formed(text)), "")


def _question(uri: str) -> str:
    return f"Did you mean {uri.rstrip('/')!r}?" if uri else ""


def _well_formed(text: str) -> Iterator[str]:
    """Yield the URI that a text with a fault of form was meant as."""
    for fault in _FAULTS:
        corrected = fault(text)
        if corrected and corrected != text:
            yield corrected


def _surroundings(text: str) -> str | None:
    quoted = re.fullmatch(r"([\"'])(.+)\1", text.strip())
    return quoted[2].strip() if quoted else text.strip()


def _chain(text: str) -> str | None:
    return text.rpartition("::")[2] if re.match(r"\w*cache[d]?::", text) else None


def _slashes(text: str) -> str | None:
    match = re.fullmatch(r"([A-Za-z][\w+.-]+):(/*)(?!/)(.+)", text, re.ASCII)
    protocol = match and _known(match[1])
    if not match or not protocol:
        return None
    traits = traits_of(f"{protocol}://")
    if traits.is_local:
        return _absolute(protocol, match[2], match[3])
    # Three slashes are an empty host, which some protocols have a default for, but no bucket.
    extra = "" if len(match[2]) < 3 or not traits.has_directories else "/"
    return f"{protocol}://{extra}{match[3]}"


def _absolute(protocol: str, slashes: str, path: str) -> str:
    """Return the URI of a local path, also where it is in the place of the host."""
    if len(slashes) == 2 and path.startswith("~"):
        return f"{protocol}://{os.path.expanduser(path)}"
    if len(slashes) == 2:
        path = re.sub(r"^(?:localhost|127\.0\.0\.1)/", "", path)
    return f"{protocol}:///{path}"


def _similar(text: str) -> str | None:
    protocol, separator, path = text.partition("://")
    if not separator or _known(protocol):
        return None
    near = get_close_matches(protocol.lower(), _protocols(), n=1, cutoff=0.75)
    return f"{near[0]}://{path}" if near and path else None


def _segments(text: str) -> str | None:
    """Return a URI of a bucket without the segments that name nothing in a path.

    In a key they do: obstore and MinIO refuse such keys, and s3fs may mean another one.
    """
    protocol, separator, path = text.partition("://")
    if not separator or "::" in text or traits_of(text).has_directories:
        return None
    segments = path.rstrip("/").split("/")
    named = [segment for segment in segments if segment not in ("", ".")]
    return f"{protocol}://{'/'.join(named)}" if named and named != segments else None


_FAULTS: tuple[Callable[[str], str | None], ...] = (
    _surroundings, _chain, _slashes, _similar, _segments
)  # fmt: skip


def _known(protocol: str) -> str | None:
    """Return a protocol as fsspec spells it, or None if fsspec does not know it."""
    for spelled in (protocol, protocol.lower()):
        if spelled in registry or spelled in known_implementations:
            return spelled
    return None


def _protocols() -> list[str]:
    """Return the protocols to suggest."""
    return [name for name, traits in PROTOCOLS.items() if not traits.is_per_process]
