"""Joins shipped step outputs, code and wheels with ``manifest.json`` into one sorted list of files for a platform."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from lsbuild import __version__, accelerating, bytecode, common
from lsbuild.api import Bundle, Compiled, File, Json, Platform, Service, Step, StepContext, StepError
from lsbuild.spec.model import Spec
from lsbuild_runtime import manifest as formats

RUNTIME = "lsbuild_runtime"
SERVED_FACTS = ("accepts", "chat", "context_length", "embedding_dimension", "found", "index", "runs_on", "sampling")
"""Facts of a step (tokens, numbers in a vector, a model's own defaults, how an index is searched and with which recall,
which execution providers have every operator of a graph, what a shield finds of labelled messages) that become metadata of
the services of its output.

An agent has those of its model too: a request that names no temperature gets the model's, whoever is asked.
"""


class Shipped(NamedTuple):
    """A step's output that goes into the bundle: ``contents`` is path -> (sha256, size) of the files in ``folder``."""

    step: Step
    folder: Path
    contents: Mapping[str, tuple[str, int]]
    facts: Mapping[str, Json]


def code_step(platform: Platform, packages: Iterable[str]) -> Step:
    """The step that copies the runtime and the serve halves named in ``packages`` as source, with bytecode."""
    names = tuple(sorted({RUNTIME, *packages}))
    return Step(
        name=f"app.{platform.tag}",
        run="lsbuild.bundle:collect",
        options={"packages": list(names), "bytecode": bytecode.compiler(platform.python)},
        code=("lsbuild.bundle", "lsbuild.bytecode", *names),
        ship="app",
        part="app",
    )


def collect(context: StepContext) -> Mapping[str, Json]:
    """Copy each package's .py files to ``out`` under its dotted path, with the ``__init__`` of its parents."""
    packages: list[str] = context.options["packages"]
    for done, name in enumerate(packages):
        context.progress(done, len(packages), name)
        for parent in _parents(name):
            _copy(_location(parent), context.out / parent.replace(".", "/") / "__init__.py")
        origin = _location(name)
        destination = context.out / name.replace(".", "/")
        if origin.name == "__init__.py":
            for path in sorted(origin.parent.rglob("*.py")):
                _copy(path, destination / path.relative_to(origin.parent))
        else:
            _copy(origin, destination.with_suffix(".py"))
    compiled = bytecode.compile_tree(context.out) if context.options["bytecode"] else 0
    return {"packages": len(packages), "bytecode": compiled}


def assemble(
    spec: Spec,
    target: str,
    platform: Platform,
    shipped: Iterable[Shipped],
    compiled: Mapping[tuple[str, str], Compiled],
    build: Mapping[str, Json],
    extras: Mapping[str, Path],
) -> Bundle:
    """The bundle of one platform.

    Args:
        shipped: the outputs that go into the bundle.
        compiled: what the items compiled to; their services go into the manifest in spec order.
        build: hashes of spec and lock, for the manifest.
        extras: outputs of the target's own steps, by local name.
    """
    files: list[File] = []
    entries: list[formats.FileEntry] = []
    known: dict[str, dict[str, Json]] = {}
    for step, folder, contents, facts in shipped:
        component = step.name.rsplit(".", 1)[0]
        known[step.ship] = {name: facts[name] for name in SERVED_FACTS if name in facts}
        for name, (sha256, size) in sorted(contents.items()):
            path = f"{step.ship}/{name}"
            source = folder / name
            mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            files.append(File(path, source, mode, step.part, component))
            entries.append(formats.FileEntry(path=path, sha256=sha256, size=size, part=step.part, component=component))
    limits = spec.server.limits
    services = _told([service for item in compiled.values() for service in item.services], known)
    manifest = formats.Manifest(
        schema=formats.SCHEMA,
        name=spec.name,
        lsbuild=__version__,
        target=target,
        platform=platform.tag,
        services=services,
        server=formats.Server(
            host=spec.server.host,
            port=spec.server.port,
            body=limits.body,
            upload=limits.upload,
            concurrency=limits.concurrency,
            queue=limits.queue,
            deadline_s=limits.deadline,
            prepare=accelerating.opened_at_start(services),
        ),
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
        build=dict(build),
    )
    files.append(File(formats.FILE_NAME, formats.to_json(manifest), component="manifest"))
    return Bundle(platform, manifest, tuple(sorted(files, key=lambda file: file.path)), dict(extras))


def _told(services: Iterable[Service], known: Mapping[str, Mapping[str, Json]]) -> tuple[Service, ...]:
    """``services`` with what is known of their folder, and of the model they need, as metadata; their own values win."""
    told: dict[str, Service] = {}
    for service in services:
        agent = service.api == "agents"
        stand_ins = [] if agent else [need for need in service.needs if need.startswith(f"{service.api}/")]
        if stand_ins:
            models = [told[need].metadata for need in stand_ins]
            told[f"{service.api}/{service.name}"] = common.with_common(service, models)
            continue
        asked = ("inference/", f"agents/{service.config.get('model')}" if agent else "inference/")
        # A shield that asks a model is none to a client.
        models = [told[need].metadata for need in service.needs if need.startswith(asked) and service.api != "safety"]
        models += [_sizes(told[need].metadata) for need in service.needs if need.startswith("embeddings/")]
        metadata = service.metadata
        for facts in (known.get(service.path, {}), *models):
            metadata = _over({name: facts[name] for name in SERVED_FACTS if name in facts}, metadata)
        told[f"{service.api}/{service.name}"] = msgspec.structs.replace(service, metadata=metadata)
    return tuple(told.values())


def _sizes(embedding: Mapping[str, Json]) -> dict[str, Json]:
    """What clients of a store want to know of its embedding model."""
    return {name: embedding[name] for name in ("embedding_dimension",) if name in embedding}


def _over(base: Mapping[str, Json], upper: Mapping[str, Json]) -> dict[str, Json]:
    """``base`` with the values of ``upper`` over it; maps are joined."""
    both = {name: {**base[name], **upper[name]} for name in base.keys() & upper.keys() if isinstance(upper[name], dict)}
    return {**base, **upper, **both}


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def _location(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise StepError(
            f"the code {name!r} that a plugin wants to ship cannot be found",
            hint="check the names in Compiled.code of that plugin",
        )
    return Path(found.origin)


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)
