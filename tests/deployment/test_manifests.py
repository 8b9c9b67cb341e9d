"""The objects for KubeRay."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError

from fsspill.deployment.manifests import Images, images_of, manifests, render_manifests
from fsspill.deployment.plan import COPY_DIRECTORY, Plan, make_plan
from fsspill.settings import MIB
from tests.deployment.configured import settings_of_environment
from tests.deployment.kubernetes import validate

CRD = os.environ.get("KUBERAY_CRD")

PLANS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "s3": (["s3://bucket/spill"], {}),
    "s3-secret": (["s3://bucket/spill"], {"source": "secret", "object_size": MIB}),
    "gs": (["gs://bucket/spill"], {"cache_max_bytes": 0}),
    "azure": (["abfs://container@account.dfs.core.windows.net/spill"], {}),
    "sftp": (["sftp://user@host/spill"], {"cache_dir": "/mnt/copies"}),
    "several": (["s3://one/spill", "gs://two"], {"cache_max_bytes": 10**9}),
    "shared": (["file:///mnt/one", "file:///mnt/two"], {"shared": True}),
    "local": (["file:///mnt/disk"], {}),
}


def plan(name: str) -> Plan:
    uris, options = PLANS[name]
    return make_plan(uris, kubernetes=True, **options)


def documents(name: str) -> dict[str, Any]:
    """Return what is printed, by kind; of several the last."""
    text = render_manifests(plan(name), images_of())
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def pods(cluster: Any) -> list[Any]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", PLANS)
def test_every_object_is_valid(name: str) -> None:
    """Against the schemas of Kubernetes and KubeRay, which know every field."""
    text = render_manifests(plan(name), images_of())
    loaded = list(yaml.safe_load_all(text))
    assert loaded == manifests(plan(name), images_of())
    for document in loaded:
        validate(document)


@pytest.mark.skipif(not CRD, reason="KUBERAY_CRD names no file with KubeRay's schema")
@pytest.mark.parametrize("name", PLANS)
def test_the_cluster_is_valid_for_a_release_of_kuberay(name: str) -> None:
    """Whose complete schema is in the file that the environment names."""
    validate(documents(name)["RayCluster"], CRD)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", ["spec", "rayVersions"], "2"),
        ("RayCluster", ["spec", "headGroupSpec", "rayStartParams", "num-cpus"], 1),
        ("RayCluster", ["spec", "headGroupSpec", "template", "spec", "volume"], []),
        ("RayCluster", ["spec", "headGroupSpec", "template", "spec", "containers", 0, "envs"], []),
        ("RayCluster", ["spec", "workerGroupSpecs", 0, "maxReplicas"], "10"),
        ("CronJob", ["spec", "jobTemplate", "spec", "template", "spec", "restart"], "Never"),
        ("CronJob", ["spec", "schedule"], 5),
        ("ServiceAccount", ["metadata", "annotation"], {}),
    ],
)
def test_the_validation_finds_a_wrong_field(kind: str, path: list[Any], value: Any) -> None:
    """A name that is unknown, and a value of another type."""
    document = copy.deepcopy(documents("s3")[kind])
    target = document
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    with pytest.raises(ValidationError):
        validate(document)


@pytest.mark.parametrize("name", PLANS)
def test_each_pod_is_configured_as_planned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment, as the hook reads it, gives the settings of the plan; values are texts."""
    for pod in pods(documents(name)["RayCluster"]):
        [container] = pod["containers"]
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert settings_of_environment(variables, monkeypatch) == plan(name).settings


def test_copies_have_a_volume_within_the_limit_of_the_pod() -> None:
    """The volume holds all copies, and the pod the volume."""
    planned = plan("s3").settings
    assert planned.cache_max_bytes is not None
    for pod in pods(documents("s3")["RayCluster"]):
        [container], [volume] = pod["containers"], pod["volumes"]
        size = nbytes(volume["emptyDir"]["sizeLimit"])
        assert planned.cache_max_bytes < size
        for kind in ("requests", "limits"):
            assert size < nbytes(container["resources"][kind]["ephemeral-storage"])
        [mount] = container["volumeMounts"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], COPY_DIRECTORY)


def nbytes(quantity: str) -> int:
    match = re.fullmatch(r"(\d+)Gi", quantity)
    assert match
    return int(match[1]) * 2**30


def test_without_copies_there_is_no_volume() -> None:
    """And no limit for it."""
    for pod in pods(documents("gs")["RayCluster"]):
        assert "volumes" not in pod
        assert "ephemeral-storage" not in pod["containers"][0]["resources"]["limits"]


def test_directories_of_nodes_are_volumes() -> None:
    """A claim for each shared one, which the clean-up mounts too; else what ends with the pod."""
    shared = documents("shared")
    for pod in (*pods(shared["RayCluster"]), clean_up_pod(shared["CronJob"])):
        claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"]]
        assert claims == ["fsspill", "fsspill-2"]
        for container in pod["containers"]:
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert paths == ["/mnt/one", "/mnt/two"]
    local = documents("local")
    assert "CronJob" not in local
    assert pods(local["RayCluster"])[0]["volumes"] == [{"name": "fsspill", "emptyDir": {}}]


def clean_up_pod(job: Any) -> Any:
    return job["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_clean_up_runs_for_every_uri() -> None:
    """With the command that users know, and without two at a time."""
    job = documents("several")["CronJob"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\d+ \* \* \* \*", job["spec"]["schedule"])
    commands = [each["command"] for each in clean_up_pod(job)["containers"]]
    options = ["--older-than", "24h"]
    uris = ["s3://one/spill", "gs://two"]
    assert commands == [["fsspill", "clean", uri, *options] for uri in uris]


@pytest.mark.parametrize(
    ("name", "role", "secret"),
    [
        ("s3", True, False),
        ("s3-secret", False, True),
        ("gs", True, False),
        ("azure", False, True),
        ("sftp", False, True),
        ("shared", False, False),
    ],
)
def test_all_pods_have_the_credentials(name: str, role: bool, secret: bool) -> None:
    """Those of the clean-up too; from a role of a service account that is there, or a secret."""
    found = documents(name)
    assert ("ServiceAccount" in found) is role
    for pod in (*pods(found["RayCluster"]), clean_up_pod(found["CronJob"])):
        assert (pod.get("serviceAccountName") == "fsspill") is role
        for container in pod["containers"]:
            assert ("envFrom" in container) is secret


def test_a_secret_is_named_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables are in a comment; the endpoint and the region are what all pods need."""
    secrets = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE0000", "AWS_SECRET_ACCESS_KEY": "very+secret+key"}
    plain = {"AWS_DEFAULT_REGION": "eu-west-1"}
    endpoint = {"AWS_ENDPOINT_URL": "http://user:password123@minio:9000"}
    for name, value in {**secrets, **plain, **endpoint}.items():
        monkeypatch.setenv(name, value)
    text = render_manifests(plan("s3"), images_of())
    for value in (*secrets.values(), "password123"):
        assert value not in text
    # A store of its own has no roles of AWS.
    assert "secretRef" in text
    for name in secrets:
        assert f"#   {name}=..." in text
    assert "- name: AWS_ENDPOINT_URL\n" in text
    [*_, cluster, job] = yaml.safe_load_all(text)
    for pod in (*pods(cluster), clean_up_pod(job)):
        assert {"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"} in pod["containers"][0]["env"]


def test_the_image_is_that_of_the_user() -> None:
    """By default it has the Ray that is installed here, and the extra of the storage."""
    text = render_manifests(plan("several"), Images("2.50.0", "registry/ray:1"))
    assert text.count('image: "registry/ray:1"') == 4
    assert "FROM rayproject/ray:2.50.0" in text
    assert "'fsspill[gcs,s3]'" in text
    assert images_of(None, "2.45.0") == Images("2.45.0", "my-registry/ray-fsspill:2.45.0")


def test_the_page_has_what_is_printed() -> None:
    """docs/kuberay.md shows the objects for a bucket, as they are."""
    page = (Path(__file__).parents[2] / "docs" / "kuberay.md").read_text()
    [block] = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    planned = make_plan(["s3://my-bucket/spill"], kubernetes=True)
    assert block == render_manifests(planned, images_of(ray_version="2.60.0")) + "\n"


def test_lines_fit_a_narrow_terminal() -> None:
    """Comments do; a value is as long as it is."""
    text = render_manifests(plan("s3"), images_of())
    assert all(len(line) <= 60 for line in text.splitlines() if line.lstrip().startswith("# "))
    assert json.dumps(manifests(plan("s3"), images_of()))
