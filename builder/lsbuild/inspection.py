"""Reads what is inside an artifact, whatever its target; it boots nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lsbuild import found as finding
from lsbuild import registry
from lsbuild.api import Manifest, Service, Target
from lsbuild.errors import VerifyError

_CHATS = (
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1alpha/interactions",
)
_FILES = (
    "/v1/batches",
    "/v1/batches/{id}",
    "/v1/batches/{id}/cancel",
    "/v1/files",
    "/v1/files/{id}",
    "/v1/files/{id}/content",
)
_PROMPTS = (
    "/v1/prompts",
    "/v1/prompts/{id}",
    "/v1/prompts/{id}/set-default-version",
    "/v1/prompts/{id}/versions",
)
ROUTES = {
    "inference": (*_CHATS, "/v1/completions"),
    "agents": _CHATS,
    "state": (
        "/v1alpha/interactions/{id}",
        *_FILES,
        *_PROMPTS,
        "/v1/conversations",
        "/v1/conversations/{id}",
        "/v1/conversations/{id}/items",
        "/v1/conversations/{id}/items/{item_id}",
        "/v1/responses/{id}",
        "/v1/responses/{id}/cancel",
        "/v1/responses/{id}/input_items",
    ),
    "embeddings": ("/v1/embeddings",),
    "safety": ("/v1/moderations", "/v1/safety/run-shield", "/v1/shields", "/v1/shields/{id}"),
    "workflows": (
        "/v1/workflows",
        "/v1/workflows/{name}",
        "/v1/workflows/{name}/runs",
        "/v1/workflows/{name}/runs/{run_id}",
        "/v1/workflows/{name}/runs/{run_id}/approve",
        "/v1/workflows/{name}/runs/{run_id}/cancel",
    ),
    "tool_runtime": (
        "/v1/tool-runtime/invoke",
        "/v1/tool-runtime/list-tools",
        "/v1/toolgroups",
        "/v1/toolgroups/{id}",
        "/v1/tools",
        "/v1/tools/{id}",
        "/v1alpha/admin/tools",
    ),
    "rerank": ("/v1/rerank", "/v1alpha/inference/rerank"),
    "prompts": _PROMPTS,
    "vector_io": (
        "/v1/vector-io/query",
        "/v1/vector_stores",
        "/v1/vector_stores/{id}",
        "/v1/vector_stores/{id}/search",
    ),
    "vector_stores": (
        *_FILES,
        "/v1/vector-io/insert",
        "/v1/vector_stores/{id}/file_batches",
        "/v1/vector_stores/{id}/file_batches/{batch_id}",
        "/v1/vector_stores/{id}/file_batches/{batch_id}/cancel",
        "/v1/vector_stores/{id}/file_batches/{batch_id}/files",
        "/v1/vector_stores/{id}/files",
        "/v1/vector_stores/{id}/files/{file_id}",
        "/v1/vector_stores/{id}/files/{file_id}/content",
    ),
}
"""What a service of an API answers. The builder may not call the runtime; a test holds these against its route table."""
COMMON_ROUTES = (
    "/v1/live",
    "/v1/health",
    "/v1/ready",
    "/v1/version",
    "/v1/inspect/routes",
    "/v1/providers",
    "/v1/providers/{id}",
    "/v1/models",
    "/v1/models/{id}",
    "/v1/openapi.json",
    "/v1alpha/admin/health",
    "/v1alpha/admin/version",
    "/v1alpha/admin/inspect/routes",
    "/v1alpha/admin/providers",
    "/v1alpha/admin/providers/{id}",
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """An artifact, the target that made it and its manifests, one for each platform."""

    path: Path
    target: Target
    manifests: tuple[Manifest, ...]


def inspect(artifact: Path) -> Inspection:
    """Ask every target whether it made this. Raises VerifyError when none did."""
    if not artifact.exists():
        raise VerifyError("there is no such artifact", where=str(artifact), hint="compile one with `lsbuild spec.yaml`")
    known = registry.find()
    for name in registry.target_names():
        target = known.target(name)
        manifests = target.manifests(artifact)
        if manifests:
            return Inspection(artifact, target, manifests)
    raise VerifyError("this is not an artifact of lsbuild", where=str(artifact))


def components(manifest: Manifest) -> dict[str, int]:
    """Bytes by component, largest first."""
    sizes: dict[str, int] = defaultdict(int)
    for entry in manifest.files:
        sizes[entry.component or entry.part] += entry.size
    return dict(sorted(sizes.items(), key=lambda row: (-row[1], row[0])))


def routes(manifest: Manifest) -> tuple[str, ...]:
    """The routes that the services of this manifest answer."""
    apis = {service.api for service in manifest.services}
    served = {route for api in sorted(apis) for route in ROUTES.get(api, ())}
    return (*COMMON_ROUTES, *sorted(served))


def to_dict(found: Inspection) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "path": str(found.path),
        "target": found.target.name,
        "platforms": [
            {
                "platform": manifest.platform,
                "name": manifest.name,
                "lsbuild": manifest.lsbuild,
                "components": components(manifest),
                "services": [msgspec.to_builtins(service) for service in manifest.services],
                "routes": routes(manifest),
                "files": [msgspec.to_builtins(entry) for entry in manifest.files],
                "build": manifest.build,
            }
            for manifest in found.manifests
        ],
    }


def to_text(found: Inspection) -> str:
    """For people: services, sizes by component, routes, and the hashes of what is not code or a wheel."""
    first = found.manifests[0]
    platforms = ", ".join(manifest.platform for manifest in found.manifests)
    lines = [
        f"{first.name}: {found.target.name} artifact for {platforms}, made by lsbuild {first.lsbuild}",
        "",
        "services",
    ]
    lines += [
        f"  {service.api:<12} {service.name:<20} {service.provider}  {tools(service)}".rstrip()
        for service in first.services
    ]
    for service in first.services:
        told = list(finding.lines(service.name, service.metadata.get("found", ())))
        lines += ["", *told] if told else []
    for manifest in found.manifests:
        total = sum(entry.size for entry in manifest.files)
        lines += ["", f"components of {manifest.platform} ({total / 1e6:.1f} MB unpacked)"]
        lines += [f"  {size / 1e6:9.2f} MB  {name}" for name, size in components(manifest).items()]
    lines += ["", "routes"]
    lines += [f"  {route}" for route in routes(first)]
    lines += ["", "data files (sha256)"]
    data = [entry for entry in first.files if entry.part in ("model", "index")]
    lines += [f"  {entry.sha256}  {entry.path}" for entry in data]
    return "\n".join(lines)


def tools(service: Service) -> str:
    """The tools of a group, and what a policy goes by; "" for any other service."""
    if service.api != "tool_runtime":
        return ""
    told = service.metadata
    named = ", ".join(told.get("tools", ())) or "as its server gives them"
    marks = [f"sends {told['sends']}"] if told.get("sends") == "external" else []
    marks += ["trusted"] if told.get("trusted") else []
    marks += ["approval always"] if told.get("approval") == "always" else []
    return f"{named} ({', '.join(marks)})" if marks else named
