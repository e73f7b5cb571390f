"""Holds YAML files for Kubernetes and Compose against published schemas; run by the Python of ``make kube``, prints faults.

Kubernetes: the OpenAPI schemas of several releases, strict. Compose: the schema of the Compose specification. Knative: the
validator that @kubernetes-models made of its CRD, by node, and its pod against Kubernetes' own. KServe publishes no schema
that can be had by a package, so one is made of the types that its SDK declares.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

RELEASES = ("1.29", "1.37")
_ROOT = Path(sys.prefix)
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "object": "object"}
_REVISION = {"containerConcurrency", "timeoutSeconds", "idleTimeoutSeconds", "responseStartTimeoutSeconds"}


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported: KServe's SDK needs a hundred others for that."""
    found = importlib.util.find_spec(name)
    assert found is not None and found.submodule_search_locations, f"no {name} here"
    return Path(next(iter(found.submodule_search_locations)))


def faults(document: dict[str, Any]) -> Iterator[str]:
    """What the schemas say against one document."""
    api = document.get("apiVersion", "")
    if api.startswith("serving.knative.dev/"):
        yield from knative(document)
    elif api.startswith("serving.kserve.io/"):
        yield from against(document, kserve_schema(), "KServe")
    elif api:
        for release in RELEASES:
            try:
                kubernetes_validate.validate(document, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"Kubernetes {release}: {error.message} at {list(error.path)}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield error.message
    else:
        schema = package("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
        yield from against(document, json.loads(schema.read_text()), "Compose")


def against(value: Any, schema: dict[str, Any], name: str) -> Iterator[str]:
    for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(value):
        yield f"{name}: {error.message} at {list(error.path)}"


def knative(document: dict[str, Any]) -> Iterator[str]:
    script = (
        "import {Service} from '@kubernetes-models/knative/serving.knative.dev/v1'; import {readFileSync} from 'node:fs';"
        "try { new Service(JSON.parse(readFileSync(0))).validate(); console.log('[]') }"
        "catch (error) { console.log(JSON.stringify(error.errors)) }"
    )
    node = [_ROOT / "bin/node", "--input-type=module", "-e", script]
    done = subprocess.run(node, input=json.dumps(document), capture_output=True, text=True, cwd=_ROOT, check=True)
    for error in json.loads(done.stdout):
        yield f"Knative: {error['instancePath']} {error.get('message') or error['keyword']} {error['params']}"
    revision = document["spec"]["template"]["spec"]
    pod = {name: value for name, value in revision.items() if name not in _REVISION}
    yield from against(pod, {"$ref": "#/$defs/io.k8s.api.core.v1.PodSpec", **kubernetes()}, "Knative's pod")


def kubernetes() -> dict[str, Any]:
    """``$defs`` of the newest release, strict."""
    folder = package("kubernetes_validate") / f"kubernetes-json-schema/v{RELEASES[-1]}.0-local-strict"
    text = (folder / "_definitions.json").read_text()
    return {"$defs": json.loads(text.replace("_definitions.json#", "#"))["$defs"]}


def kserve_schema() -> dict[str, Any]:
    """A schema of InferenceService made of ``openapi_types`` and ``attribute_map`` in KServe's SDK."""
    places = dict(
        re.findall(r"from kserve\.models\.(\w+) import (\w+)", (package("kserve") / "models/__init__.py").read_text())
    )
    files = {kind: package("kserve") / f"models/{module}.py" for module, kind in places.items()}
    definitions = kubernetes()["$defs"]

    def declared(kind: str) -> dict[str, Any]:
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if match := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": "array", "items": declared(match[1])}
        if match := re.fullmatch(r"dict\(str, (.+)\)", kind):
            return {"type": "object", "additionalProperties": declared(match[1])}
        if kind in files:
            if kind not in definitions:
                definitions[kind] = {}  # before its parts: some name each other
                definitions[kind] |= of_class(files[kind])
            return {"$ref": f"#/$defs/{kind}"}
        for package_name in ("io.k8s.api.core.v1", "io.k8s.apimachinery.pkg.apis.meta.v1"):
            if (full := f"{package_name}.{kind.removeprefix('V1')}") in definitions:
                return {"$ref": f"#/$defs/{full}"}
        return {}

    def of_class(file: Path) -> dict[str, Any]:
        tables = {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.walk(ast.parse(file.read_text()))
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and statement.targets[0].id in ("openapi_types", "attribute_map")
        }
        names = tables["attribute_map"]
        properties = {names[name]: declared(kind) for name, kind in tables["openapi_types"].items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    return {**declared("V1beta1InferenceService"), "$defs": definitions}


def main() -> None:
    found = [
        f"{path}: {fault}"
        for path in sys.argv[1:]
        for document in yaml.safe_load_all(Path(path).read_text())
        for fault in faults(document)
    ]
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
