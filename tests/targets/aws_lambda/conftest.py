"""A function small enough to pack and boot in a moment: a few lines that speak the Runtime API, and no model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Bundle, File, Service
from lsbuild_runtime.manifest import to_json
from lsbuild_targets.aws_lambda.options import Options

MAIN = b"""
import http.client, json, os, pathlib

def main(task, layers):
    model = pathlib.Path(layers, "models/chat/model.bin").stat().st_size
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = api.getresponse()
        event = json.loads(answer.read())
        if answer.status != 200:
            return 0
        body = json.dumps({"status": "OK", "model": model, "env": sorted(os.environ), "data": [event["rawPath"]]})
        where = f"/2018-06-01/runtime/invocation/{answer.headers['Lambda-Runtime-Aws-Request-Id']}/response"
        if ".lambda-url." in event["requestContext"]["domainName"]:
            head = json.dumps({"statusCode": 200, "headers": {"content-type": "application/json"}}).encode()
            headers = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}
            chunks = iter([head + bytes(8), body[:5].encode(), body[5:].encode()])
            api.request("POST", where, chunks, headers, encode_chunked=True)
        else:
            api.request("POST", where, json.dumps({"statusCode": 200, "body": body}))
        api.getresponse().read()
"""
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"

MakeFunction = Callable[..., Bundle]


@pytest.fixture
def make_function(make_bundle: Callable[..., Bundle]) -> MakeFunction:
    """``make_function(main=, extra=, services=)``: a bundle whose runtime is MAIN."""

    def make(
        main: bytes = MAIN, extra: tuple[File, ...] = (), services: tuple[Service, ...] = (), **more: Any
    ) -> Bundle:
        package = "app/lsbuild_runtime/serve/aws_lambda"
        own = (File(f"{package}/__init__.py", b""), File(f"{package}/main.py", main))
        made = make_bundle(extra=(*own, *extra), **more)
        if not services:
            return made
        from msgspec.structs import replace

        manifest = replace(made.manifest, services=services)
        files = [file for file in made.files if file.path != "manifest.json"]
        files.append(File("manifest.json", to_json(manifest)))
        return Bundle(made.platform, manifest, tuple(sorted(files, key=lambda file: file.path)))

    return make


@pytest.fixture
def options() -> Options:
    """Options for the Python that runs the tests, which need not be one of Lambda's."""
    return Options(package="zip").model_copy(update={"python": RUNNING})


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder
