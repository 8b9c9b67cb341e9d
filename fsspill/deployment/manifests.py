"""The objects of Kubernetes for a Ray cluster under KubeRay that spills to a URI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fsspill.deployment.choices import Choice
from fsspill.deployment.commented import comment, to_yaml, without_comments
from fsspill.deployment.plan import Plan
from fsspill.storage.protocols import traits_of

__all__ = ["Images", "images_of", "manifests", "render_manifests"]

_NAME = "fsspill"
"""Name of the service account, the secret, the volume and its claim."""

_GIB = 2**30
_NEWEST_RAY = "2.60.0"

_ROOM_GIB = 10
"""GiB of a pod's ephemeral storage besides the volume: logs, and what Ray spills to its temporary
directory while no URI takes anything."""


@dataclass(frozen=True)
class Images:
    """The images of a cluster.

    Attributes
    ----------
    ray_version : str
        Version of Ray.
    image : str
        Image with Ray and fsspill.
    """

    ray_version: str
    image: str


def images_of(image: str | None = None, ray_version: str | None = None) -> Images:
    """Return an image, by default a placeholder, with the Ray that is installed here."""
    ray_version = ray_version or _installed_ray()
    return Images(ray_version, image or f"my-registry/ray-fsspill:{ray_version}")


def _installed_ray() -> str:
    try:
        return version("ray")
    except PackageNotFoundError:
        return _NEWEST_RAY


def render_manifests(plan: Plan, images: Images) -> str:
    """Return the objects as YAML, below the lines for their image and their credentials."""
    documents = [to_yaml(each) for each in _manifests(plan, images)]
    head = comment("\n".join([*_image_lines(plan, images), *_secret_lines(plan)]))
    return "\n---\n".join(["\n".join([*head, documents[0]]), *documents[1:]])


def manifests(plan: Plan, images: Images) -> list[dict[str, Any]]:
    """Return the objects without comments."""
    return [without_comments(each) for each in _manifests(plan, images)]


def _image_lines(plan: Plan, images: Images) -> Iterator[str]:
    extras = sorted({traits_of(uri).extra or "" for uri in plan.settings.uri} - {""})
    package = f"fsspill[{','.join(extras)}]" if extras else "fsspill"
    yield "The image has fsspill in Ray's environment; a runtime_env cannot install it. Dockerfile:"
    yield f"  FROM rayproject/ray:{images.ray_version}"
    yield "  RUN pip list --format=freeze > /tmp/installed.txt && \\"
    yield f"      pip install -c /tmp/installed.txt '{package}'"


def _secret_lines(plan: Plan) -> Iterator[str]:
    if not plan.secrets:
        return
    yield ""
    yield f"The secret {_NAME} has the credentials, a line of FILE for each:"
    for credentials in plan.secrets:
        yield from (f"  {name}=..." for name in credentials.secret_variables)
    yield from (each.remark for each in plan.secrets if each.remark)
    yield f"  kubectl create secret generic {_NAME} \\"
    yield "      --from-env-file=FILE"


def _manifests(plan: Plan, images: Images) -> Iterator[dict[str, Any]]:
    if plan.roles:
        yield _service_account(plan)
    if plan.settings.shared:
        yield from map(_volume_claim, _names(plan))
    yield _ray_cluster(plan, images)
    if not plan.settings.node_local:
        yield _clean_up(plan, images)


def _service_account(plan: Plan) -> dict[str, Any]:
    annotations: dict[str, Any] = {}
    for credentials in plan.roles:
        name, example = credentials.annotation
        annotations[f"# Yours: the role of all pods. {credentials.remark}"] = None
        annotations[name] = example
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _NAME, "annotations": annotations},
    }


def _volume_claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "# Of a storage class that all nodes can mount, such as NFS.": None,
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "100Gi"}},
        },
    }


def _ray_cluster(plan: Plan, images: Images) -> dict[str, Any]:
    worker = {
        "groupName": "workers",
        "replicas": 2,
        "minReplicas": 0,
        "maxReplicas": 10,
        "rayStartParams": {},
        "template": {"spec": without_comments(_pod(plan, images, "ray-worker"))},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "ray"},
        "spec": {
            "rayVersion": images.ray_version,
            "headGroupSpec": {
                "rayStartParams": {},
                "template": {"spec": _pod(plan, images, "ray-head")},
            },
            "workerGroupSpecs": ["# As the head, without its comments.", worker],
        },
    }


def _pod(plan: Plan, images: Images, name: str) -> dict[str, Any]:
    containers = [_ray_container(plan, images, name)]
    return {**_identity(plan), "containers": containers, **_volumes(plan)}


def _identity(plan: Plan) -> dict[str, Any]:
    return {"serviceAccountName": _NAME} if plan.roles else {}


def _ray_container(plan: Plan, images: Images, name: str) -> dict[str, Any]:
    variables = [item for each in plan.environment() for item in _variable(each)]
    return {
        "name": name,
        "image": images.image,
        "env": variables,
        **_secret(plan),
        "resources": _resources(plan),
        **_mounts(plan),
    }


def _variable(choice: Choice) -> Iterator[Any]:
    """Yield an item of a list of variables, after its reason; an optional one as a comment."""
    entry = {"name": choice.name, "value": choice.value}
    if choice.optional:
        yield f"# {choice.reason}\n{to_yaml([entry])}"
    else:
        yield {**({f"# {choice.reason}": None} if choice.reason else {}), **entry}


def _secret(plan: Plan) -> dict[str, Any]:
    return {"envFrom": [{"secretRef": {"name": _NAME}}]} if plan.secrets else {}


def _resources(plan: Plan) -> dict[str, Any]:
    disk: dict[str, Any] = {}
    if plan.settings.cache_max_bytes:
        reason = (
            f"# The volume of copies, and {_ROOM_GIB} GiB for the logs of Ray, which spills to its "
            "own directory too while no bucket takes anything. Above it the kubelet evicts the pod."
        )
        disk = {reason: None, "ephemeral-storage": f"{_volume_gib(plan) + _ROOM_GIB}Gi"}
    size = {"# Yours.": None, "cpu": "4", "memory": "16Gi", **disk}
    return {"requests": without_comments(size), "limits": size}


def _volume_gib(plan: Plan) -> int:
    """Return the size of the volume: a tenth more than all copies, for what is not counted."""
    return -(-(plan.settings.cache_max_bytes or 0) * 11 // (10 * _GIB))


def _mount_paths(plan: Plan) -> list[str]:
    if plan.settings.local:
        return [uri.partition("://")[2] for uri in plan.settings.uri]
    return [plan.settings.cache_dir] if plan.settings.cache_dir else []


def _names(plan: Plan) -> list[str]:
    """Return the names of the volumes."""
    count = len(_mount_paths(plan))
    return [f"{_NAME}-{number}" if number > 1 else _NAME for number in range(1, count + 1)]


def _mounts(plan: Plan) -> dict[str, Any]:
    mounted = zip(_names(plan), _mount_paths(plan), strict=True)
    mounts = [{"name": name, "mountPath": path} for name, path in mounted]
    return {"volumeMounts": mounts} if mounts else {}


def _volumes(plan: Plan) -> dict[str, Any]:
    volumes = [{"name": name, **_volume(plan, name)} for name in _names(plan)]
    return {"volumes": volumes} if volumes else {}


def _volume(plan: Plan, name: str) -> dict[str, Any]:
    if plan.settings.shared:
        return {"persistentVolumeClaim": {"claimName": name}}
    if plan.settings.local:
        return {
            "# Spilled objects, on the disk of the node; lost with the pod.": None,
            "emptyDir": {},
        }
    reason = (
        "# Local copies, on the disk of the node; the bucket has everything all the same. The "
        "limit is a tenth above cache_max_bytes, or the kubelet would evict the pod."
    )
    return {reason: None, "emptyDir": {"sizeLimit": f"{_volume_gib(plan)}Gi"}}


def _clean_up(plan: Plan, images: Images) -> dict[str, Any]:
    pod = {
        **_identity(plan),
        "restartPolicy": "Never",
        "containers": [
            _clean_up_container(plan, images, number, uri)
            for number, uri in enumerate(plan.settings.uris, start=1)
        ],
        **(_volumes(plan) if plan.settings.shared else {}),
    }
    reason = (
        "# Removes what clusters left that were deleted or killed. It never touches one that is "
        "alive; 'fsspill clean --help' says how that is known."
    )
    return {
        reason: None,
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "fsspill-clean"},
        "spec": {
            "schedule": "17 * * * *",
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": 3000,
                    "template": {"spec": pod},
                }
            },
        },
    }


def _clean_up_container(plan: Plan, images: Images, number: int, uri: str) -> dict[str, Any]:
    variables = [item for each in plan.variables_from_here() for item in _variable(each)]
    return {
        "name": f"clean-{number}",
        "image": images.image,
        "command": ["fsspill", "clean", uri, "--older-than", "24h"],
        **({"env": variables} if variables else {}),
        **_secret(plan),
        **(_mounts(plan) if plan.settings.shared else {}),
    }
