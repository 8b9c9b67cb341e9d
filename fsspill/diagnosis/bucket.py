"""Facts of a bucket that cost money, time or objects: versions, lifecycle, locks, region, clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from fsspill.cleanup.listing import time_of
from fsspill.diagnosis.lifecycle import judge_rules
from fsspill.diagnosis.trial import Trial
from fsspill.diagnosis.verdict import (
    NOT_OF_THIS_STORAGE,
    Checklist,
    Finding,
    ok,
    skipped,
    warning,
)
from fsspill.errors import (
    FsspillError,
    StoragePermissionError,
    StorageRefusedError,
    format_seconds,
)
from fsspill.http_answer import HttpAnswer
from fsspill.storage.client import StorageClient
from fsspill.storage.internals import endpoint_url, s3_client_meta, soft_delete_days
from fsspill.storage.protocols import protocol_of
from fsspill.storage.s3 import S3Client

__all__ = ["check_bucket"]

_LARGEST_SKEW = 60.0
"""Seconds of difference between two clocks beyond which something is wrong; S3 refuses requests
after 15 minutes."""

_ENCRYPTED = frozenset({"sftp", "ssh"})

_ABSENT = frozenset({"NoSuchLifecycleConfiguration", "ObjectLockConfigurationNotFoundError"})
"""Codes of S3 for a setting that a bucket does not have."""


def check_bucket(trial: Trial, checks: Checklist) -> None:
    """Check what the settings of a bucket, and the way to it, mean for spilled files.

    Parameters
    ----------
    trial : Trial
        The URI, whose permissions were checked.
    checks : Checklist
        Gets the verdicts.

    Notes
    -----
    About 10 requests. What these credentials may not read, or the storage does not have, is
    skipped: none of it is needed to spill.
    """
    facts: dict[str, Callable[[Trial], Finding]] = {
        "region": _region,
        "https": _https,
        "clock": _clock,
        "versioning": partial(_of_setting, "get_bucket_versioning", _versioning),
        "soft delete": _soft_delete,
        "lifecycle": partial(_of_setting, "get_bucket_lifecycle_configuration", _lifecycle),
        "object lock": partial(_of_setting, "get_object_lock_configuration", _object_lock),
    }
    needs = {"clock": "write", "versioning": "delete"}
    for name, check in facts.items():
        needed = needs.get(name, "filesystem")
        checks.run(name, partial(check, trial), needs=[needed], otherwise="skipped")


_PERMISSIONS = {
    "get_bucket_versioning": "s3:GetBucketVersioning",
    "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
    "get_object_lock_configuration": "s3:GetBucketObjectLockConfiguration",
}

_Judge = Callable[[Trial, Mapping[str, Any]], Finding]


def _of_setting(operation: str, judge: _Judge, trial: Trial) -> Finding:
    """Judge a setting of a bucket of S3, if these credentials may read it."""
    if not isinstance(trial.client, S3Client):
        return NOT_OF_THIS_STORAGE
    try:
        return judge(trial, _ask(trial, operation))
    except StoragePermissionError as error:
        if not HttpAnswer.of(error):
            raise
        return skipped(f"these credentials may not read it (it takes {_PERMISSIONS[operation]})")
    except StorageRefusedError:
        return skipped("the storage does not tell")


def _ask(trial: Trial, operation: str) -> Mapping[str, Any]:
    """Return a setting of the bucket; {} where it has none."""

    async def ask(client: StorageClient) -> Mapping[str, Any]:
        assert isinstance(client, S3Client)
        return await client.setting(operation)

    try:
        return trial.ask(ask, "cannot read settings of")
    except FsspillError as error:
        answer = HttpAnswer.of(error)
        if answer and answer.code in _ABSENT:
            return {}
        raise


def _headers(trial: Trial) -> Mapping[str, str]:
    """Return the headers of S3's answer to a request about the bucket."""
    answer = _ask(trial, "head_bucket")
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


def _region(trial: Trial) -> Finding:
    if not isinstance(trial.client, S3Client):
        return NOT_OF_THIS_STORAGE
    region = _headers(trial).get("x-amz-bucket-region", "")
    meta = s3_client_meta(trial.client.connection.fs)
    begins = str(meta.region_name or "") if meta else ""
    if not region:
        return ok(trial.client.server or "the storage does not tell")
    if begins and begins != region:
        return warning(
            f"the bucket is in {region}, and requests begin in {begins}",
            f"Set AWS_DEFAULT_REGION={region} on every node: each process learns it at the "
            "cost of a request, and reads from another region are billed.",
        )
    return ok(region)


def _https(trial: Trial) -> Finding:
    connection = trial.client.connection
    if trial.location.local:
        return NOT_OF_THIS_STORAGE
    if protocol_of(trial.uri) in _ENCRYPTED:
        return ok("encrypted by SSH")
    url = endpoint_url(connection.fs, connection.traits.obstore)
    if not url:
        return skipped("the endpoint is not known")
    if url.startswith("https://"):
        return ok(url)
    return warning(
        f"{url} is not encrypted: others on the network see the objects, and can alter requests",
        "Use an endpoint with https://.",
    )


def _clock(trial: Trial) -> Finding:
    before = time.time()
    there = _time_there(trial)
    here = (before + time.time()) / 2
    if there is None:
        return skipped("the storage tells no time")
    difference = there - here
    amount = "less than a second" if abs(difference) < 1 else format_seconds(abs(difference))
    found = f"this machine is {amount} {'behind' if difference > 0 else 'ahead of'} the storage"
    if abs(difference) <= max(_LARGEST_SKEW, time.time() - before):
        return ok(found)
    return warning(
        found,
        "Set the clock of this machine, by NTP: S3 refuses requests from 15 minutes on, and "
        "'fsspill clean' keeps sessions whose clocks disagree.",
    )


def _time_there(trial: Trial) -> float | None:
    """Return the time by the clock of the storage: in an answer of S3, else that of a new file."""
    if isinstance(trial.client, S3Client):
        date = _headers(trial).get("date")
        return parsedate_to_datetime(date).timestamp() if date else None
    file = trial.put("clock", b"x")
    path = trial.client.path(file)
    directory = path.rpartition("/")[0]
    found = trial.ask(lambda client: client.list_directory(directory), "cannot list")
    return time_of(found.get(path, {}))


def _versioning(trial: Trial, answer: Mapping[str, Any]) -> Finding:
    status = answer.get("Status")
    if status != "Enabled":
        return ok("suspended" if status else "off")
    directory = trial.client.root + trial.location.node_path
    trial.ask(lambda client: client.find_all(directory), "cannot list the versions of")
    if trial.client.finds_deleted:
        return ok("on: fsspill deletes every version that it has written")
    return warning(
        "on, and these credentials may not delete or list versions: what is deleted stays, and "
        "is billed",
        "Allow s3:DeleteObjectVersion and s3:ListBucketVersions, or end old versions by a "
        "lifecycle rule: NoncurrentVersionExpiration after 1 day, and ExpiredObjectDeleteMarker.",
    )


def _soft_delete(trial: Trial) -> Finding:
    connection = trial.client.connection
    kind = connection.traits.obstore
    if kind not in ("gcs", "azure"):
        return NOT_OF_THIS_STORAGE
    bucket = trial.client.bucket
    try:
        days = trial.ask(
            lambda client: soft_delete_days(client.connection.fs, kind, bucket),
            "cannot read settings of",
        )
    except FsspillError:
        return skipped("these credentials may not read it")
    if not days:
        return ok("off")
    return warning(
        f"what is deleted stays for {days:g} days, and is billed",
        "Turn soft delete off, or use a bucket (on Azure an account) without it.",
    )


def _lifecycle(trial: Trial, answer: Mapping[str, Any]) -> Finding:
    key = trial.client.root.partition("/")[2]
    return judge_rules(answer.get("Rules") or [], f"{key}/" if key else "")


def _object_lock(trial: Trial, answer: Mapping[str, Any]) -> Finding:
    lock = answer.get("ObjectLockConfiguration") or {}
    if lock.get("ObjectLockEnabled") != "Enabled":
        return ok("off")
    retention = (lock.get("Rule") or {}).get("DefaultRetention")
    if not retention:
        return ok("on, without a default retention")
    unit = "Years" if retention.get("Years") else "Days"
    return warning(
        f"every file is kept for {retention.get(unit)} {unit.lower()} after its deletion, and "
        f"billed ({retention.get('Mode')})",
        "Use a bucket without a default retention.",
    )
