"""The runtime alone: it imports with msgspec only, loads nothing it must not, and its OpenAPI document is sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

import lsbuild_runtime
from lsbuild_runtime.openapi import document
from lsbuild_runtime.routes import ROUTES
from lsbuild_runtime.routing import found
from runtime_asking import Ask

RUNTIME = Path(lsbuild_runtime.__file__).parents[1]

ALONE = """
import sys
sys.path[:0] = sys.argv[1:]
from pathlib import Path
from lsbuild_runtime.app import App
from lsbuild_runtime.http import Request
from lsbuild_runtime.manifest import Manifest, Server
manifest = Manifest(
    schema=1, name="n", lsbuild="0", target="host", platform="p", services=(), server=Server(), files=()
)
response = App(manifest, Path(".")).handle(Request("GET", "/v1/health"))
assert (response.status, response.body) == (200, b'{"status":"OK"}')
print("\\n".join(sorted(sys.modules)))
"""
FORBIDDEN = {
    "asyncio", "click", "concurrent.futures", "ctypes", "dataclasses", "email", "http.client", "inspect", "json", "logging",
    "multiprocessing",
    "numpy", "onnxruntime", "pydantic", "rich", "socket", "ssl", "subprocess", "urllib3", "urllib.request", "uvicorn",
}  # fmt: skip
"""None of these is needed to answer a request; each costs milliseconds of a cold start."""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What is loaded after a health request in a process that has msgspec and the runtime only."""
    site = tmp_path_factory.mktemp("site")
    (site / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, str(RUNTIME), str(site)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_runtime_answers_with_msgspec_alone(modules: set[str]) -> None:
    assert "lsbuild_runtime.routes.inspect" in modules


def test_no_module_is_loaded_that_a_request_does_not_need(modules: set[str]) -> None:
    assert modules & FORBIDDEN == set()
    assert not {name for name in modules if name.split(".")[0] in ("lsbuild", "lsbuild_plugins", "lsbuild_targets")}


def test_what_uploads_need_is_loaded_by_the_first_of_them(modules: set[str]) -> None:
    cold = {"apsw", "multipart", "fcntl", "lsbuild_runtime.mutable", "lsbuild_runtime.routes.files"}
    assert modules & cold == set()
    assert not {name for name in modules if name.startswith(("lsbuild_runtime.uploads", "lsbuild_runtime.ingest"))}


def test_an_api_that_nobody_asked_is_not_loaded(modules: set[str]) -> None:
    loaded = {name.removeprefix("lsbuild_runtime.routes.") for name in modules}
    assert loaded & {"chat", "completions", "embeddings", "models", "providers", "search"} == set()


def test_the_number_of_modules_stays_small(modules: set[str]) -> None:
    assert len(modules) < 120


def test_every_rare_route_leads_to_a_handler() -> None:
    assert all(callable(found(route.handler)) for route in ROUTES)


def references(value: Any) -> set[str]:
    """Every $ref below ``value``."""
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own | {found for item in value.values() for found in references(item)}
    if isinstance(value, list):
        return {found for item in value for found in references(item)}
    return set()


def test_the_openapi_document_is_served_and_complete(ask: Ask) -> None:
    served = ask("GET", "/v1/openapi.json").json
    assert served == json.loads(json.dumps(document(ROUTES)))
    operations = {(method.upper(), path) for path, methods in served["paths"].items() for method in methods}
    assert operations == {(route.method, route.path.replace(":path}", "}")) for route in ROUTES}
    assert references(served) <= {f"#/components/schemas/{name}" for name in served["components"]["schemas"]}


@pytest.mark.parametrize(
    ("method", "path", "operation", "body"),
    [
        ("GET", "/v1/models", "/v1/models", None),
        ("GET", "/v1/vector_stores/manuals", "/v1/vector_stores/{id}", None),
        ("GET", "/v1/nothing", "", None),
        (
            "POST", "/v1/chat/completions", "/v1/chat/completions",
            {"model": "helper", "messages": [{"role": "user", "content": "red pump"}], "logprobs": True},
        ),
        ("POST", "/v1/completions", "/v1/completions", {"model": "org/parrot", "prompt": "a b", "logprobs": 1}),
        ("POST", "/v1/embeddings", "/v1/embeddings", {"model": "letters", "input": "a"}),
        ("POST", "/v1/vector_stores/manuals/search", "/v1/vector_stores/{id}/search", {"query": "pump"}),
    ],
)  # fmt: skip
def test_bodies_are_what_the_document_says(ask: Ask, method: str, path: str, operation: str, body: Any) -> None:
    described = document(ROUTES)
    if operation:
        described_operation = described["paths"][operation][method.lower()]
        schema = described_operation["responses"]["200"]["content"]["application/json"]["schema"]
        if body is not None:
            taken = described_operation["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.validate(body, {**taken, "components": described["components"]})
    else:
        schema = {"$ref": "#/components/schemas/ErrorBody"}
    jsonschema.validate(ask(method, path, body).json, {**schema, "components": described["components"]})
