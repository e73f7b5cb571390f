"""What a device asks a new version on trial, made of its manifest: one request for each service that can be asked safely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lsbuild.api import Manifest, Service
from lsbuild.proving.questions import can_be_asked
from lsbuild_runtime.updates.format import Question

_TEXT = "What is this about?"


def questions(manifest: Manifest) -> tuple[Question, ...]:
    """Those of ``lsbuild verify``, without looking at the content of the answers: a status is what a device compares."""
    return (Question("GET", "/v1/models", None, 200), *_of_services(manifest))


def _of_services(manifest: Manifest) -> Iterator[Question]:
    for service in manifest.services:
        asked = _question(service)
        if asked and can_be_asked(service, manifest):
            path, body = asked
            yield Question("POST" if body else "GET", path, body, 200)


def _question(service: Service) -> tuple[str, dict[str, Any] | None] | None:
    model = {"model": service.name}
    if service.api == "inference" and service.metadata.get("chat") is False:
        return "/v1/completions", {**model, "prompt": "This is", "max_tokens": 4, "temperature": 0}
    if service.api in ("inference", "agents"):
        messages = [{"role": "user", "content": _TEXT}]
        return "/v1/chat/completions", {**model, "messages": messages, "max_tokens": 4, "temperature": 0}
    others: dict[str, tuple[str, dict[str, Any] | None]] = {
        "embeddings": ("/v1/embeddings", {**model, "input": [_TEXT]}),
        "rerank": ("/v1/rerank", {**model, "query": _TEXT, "documents": ["a short text", "another one"]}),
        "vector_io": (f"/v1/vector_stores/{service.name}/search", {"query": _TEXT}),
        "safety": ("/v1/moderations", {**model, "input": _TEXT}),
        "workflows": (f"/v1/workflows/{service.name}", None),
    }
    return others.get(service.api)
