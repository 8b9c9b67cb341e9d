"""Strict validation of objects of Kubernetes: unknown fields fail too."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

DATA = Path(__file__).parent / "data"

DEFINITIONS = {
    "CronJob": "io.k8s.api.batch.v1.CronJob",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}


def validate(document: Any, crd: str | None = None) -> None:
    """Validate an object; a RayCluster against a file with KubeRay's schema, if there is one."""
    kind = document["kind"]
    if kind == "RayCluster":
        schema = strict_schema(crd) if crd else with_definitions(read("raycluster.json"))
    else:
        schema = with_definitions({"$ref": f"#/$defs/{DEFINITIONS[kind]}"})
    jsonschema.Draft202012Validator(schema).validate(document)


@cache
def read(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def with_definitions(schema: Any) -> Any:
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    return {**schema, "$defs": {**read("kubernetes.json"), "strings": strings}}


@cache
def strict_schema(path: str) -> Any:
    """Return the schema of version v1 in a CustomResourceDefinition, which knows all fields."""
    crd = yaml.load(Path(path).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    [version] = [each for each in crd["spec"]["versions"] if each["name"] == "v1"]
    return closed(version["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """Return a schema in which objects have no other fields than those that it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: closed(each) for name, each in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        result.setdefault("additionalProperties", False)
    return result
