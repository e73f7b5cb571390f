"""The build from top to bottom, one line per stage: read, resolve, plan, execute, bundle, pack, report."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel

from lsbuild import (
    accelerating,
    bundle,
    disk,
    facts,
    gates,
    history,
    leaks,
    lock,
    plan,
    prune,
    registry,
    report,
    shields,
    sources,
    wheels,
)
from lsbuild.api import Accelerator, Bundle, Compiled, Item, Platform, Plugin, Problem, Source, Step, Target
from lsbuild.errors import ServeError, SpecError
from lsbuild.evals import gates as quality
from lsbuild.evals.result import Result
from lsbuild.evals.result import read as read_result
from lsbuild.packing import native
from lsbuild.running import execute, store
from lsbuild.running.engine import open_engine
from lsbuild.running.monitor import Monitor
from lsbuild.spec.kinds import KINDS
from lsbuild.spec.load import Loaded, load
from lsbuild.spec.model import Spec, State

LOCK_NAME = "lsbuild.lock"
RUNTIME_WHEELS = ("msgspec>=0.19",)
"""What the runtime itself needs in every artifact; its server needs more (``Target.wheels``)."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a user asks for. ``jobs`` None means as many steps at once as there are cores."""

    spec: Path
    target: str = "host"
    overrides: tuple[str, ...] = ()
    offline: bool = False
    locked: bool = False
    jobs: int | None = None
    engine: str = "local"
    """Where steps run: ``local`` or ``ray``."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything known before the first step runs."""

    loaded: Loaded
    registry: registry.Registry
    target: Target
    options: BaseModel
    compiled: Mapping[tuple[str, str], Compiled]
    target_steps: Mapping[Platform, Mapping[str, Step]]
    own: Mapping[Platform, frozenset[str]]
    """Names of the steps that belong to one platform alone."""
    lock: lock.Lock
    store: store.Store
    plan: plan.Plan


def read(order: Order) -> Loaded:
    """The spec as ``order`` wants it: merged, substituted, checked. SpecError lists every fault."""
    return load(order.spec, target=order.target, environ=os.environ, overrides=order.overrides)


def prepare(order: Order, monitor: Monitor) -> Prepared:
    """Read the spec, fetch and hash its sources, and plan; runs no step and writes nothing but the source cache."""
    loaded = read(order)
    known = registry.find(loaded.spec.plugins, loaded.path.parent)
    target = known.target(order.target)
    options = loaded.options(target.Options)
    platforms = target.platforms(options)
    accelerator = accelerating.find(target, options)
    items = _items(loaded)
    plugins = {item.provider: known.plugin(item.provider, (*item.path, "provider")) for item in items}
    _check(items, plugins, loaded)

    monitor.stage("sources")
    objects = store.Store(disk.folder_from(os.environ))
    old = lock.read(loaded.path.parent / LOCK_NAME)

    def resolve(uris: Iterable[str]) -> dict[str, Source]:
        return sources.resolve(
            uris,
            root=loaded.path.parent,
            lock=old,
            cache=objects.root,
            offline=order.offline,
            locked=order.locked,
            monitor=monitor,
        )

    given = resolve(uri for item in items for uri in plugins[item.provider].sources(item).values())
    made = plan.compile_items(items, plugins, given, accelerating.providers(accelerator))
    compiled = shields.placed(accelerating.told(made, accelerator), loaded.spec)
    wanted = {tag: _platform_uris(target, options, tag, compiled, accelerator) for tag in platforms}
    fetched = resolve(uri for uris in wanted.values() for uri in uris.values())

    monitor.stage("plan")
    target_steps = {
        tag: target.steps(options, tag, {name: fetched[uris[name]] for name in target.sources(options, tag)})
        for tag, uris in wanted.items()
    }
    code = [name for each in compiled.values() for name in each.code]
    only = _only(compiled.values())
    platform_steps = {
        tag: (
            bundle.code_step(tag, code),
            *(
                wheels.step(tag, uris[folder], fetched[uris[folder]], folder, only if folder == wheels.SITE else None)
                for folder in _wheel_folders(compiled)
            ),
            *target_steps[tag].values(),
        )
        for tag, uris in wanted.items()
    }
    steps = [step for each in compiled.values() for step in each.steps]
    steps += [step for own in platform_steps.values() for step in own]
    planned = plan.plan(
        steps,
        facts=facts.gather(steps),
        known=objects.has,
        previous=history.read(objects.root, loaded.path, order.target),
    )
    own = {tag: frozenset(step.name for step in each) for tag, each in platform_steps.items()}
    merged = old.merged({**given, **fetched})
    return Prepared(loaded, known, target, options, compiled, target_steps, own, merged, objects, planned)


def build(order: Order, output: Path | None, monitor: Monitor) -> report.Report:
    """Compile and pack; the artifact stands at ``output`` (default ``build/NAME-TARGET``) or the error says why not."""
    started = time.monotonic()
    ready = prepare(order, monitor)
    if not order.locked:
        lock.write(ready.loaded.path.parent / LOCK_NAME, ready.lock)
    monitor.stage("execute")
    with closing(open_engine(order.engine, order.jobs, ready.registry.paths)) as engine:
        outputs = execute.execute(ready.plan, ready.store, monitor, engine)
    history.write(ready.store.root, ready.loaded.path, order.target, ready.plan.records)
    rows = tuple(report.step_row(planned, ready.store) for planned in ready.plan.steps)
    for text in report.warnings(rows):
        monitor.note(f"warning: {text}")
    quality.require(_gates(ready), _results(ready, outputs))
    compiled_s = time.monotonic() - started

    monitor.stage("pack")
    bundles = tuple(_bundle(ready, platform, outputs) for platform in ready.target_steps)
    gates.check(ready.loaded.spec.budgets, bundles)
    for each in bundles:
        native.check(each)
        leaks.check(each, ready.loaded.spec.not_secrets)
    out = output or Path("build") / f"{ready.loaded.spec.name}-{order.target}"
    with gates.nothing_replaced(ready.loaded.spec.budgets, ready.target, out):
        artifact = ready.target.pack(bundles, ready.options, out)
        gates.check_packed(ready.loaded.spec.budgets, artifact, bundles)
    return report.Report(
        name=ready.loaded.spec.name,
        target=order.target,
        artifact=artifact,
        bundles=bundles,
        steps=rows,
        compile_s=compiled_s,
        pack_s=time.monotonic() - started - compiled_s,
    )


def evaluate(order: Order, names: Collection[str], monitor: Monitor) -> dict[str, Result]:
    """Measure the evaluations of these names by what a build would ship; packs nothing and holds no gate.

    Those that need a service which is not compiled in are missing: only a server can be asked.
    """
    ready = prepare(order, monitor)
    asked = {name: step for step, name in _eval_steps(ready) if name in names}
    monitor.stage("execute")
    with closing(open_engine(order.engine, order.jobs, ready.registry.paths)) as engine:
        outputs = execute.execute(ready.plan.only(asked.values()), ready.store, monitor, engine)
    return {name: read_result(outputs[step]) for name, step in asked.items()}


def serve(artifact: Path, *, host: str | None, port: int | None) -> NoReturn:
    """Become the artifact's own ``run``: signals, output and exit code are then the server's."""
    words = ["--host", host] if host else []
    words += ["--port", str(port)] if port is not None else []
    _become(artifact, words)


def compact(artifact: Path, *, state: Path | None) -> NoReturn:
    """Become the artifact's ``run --compact``: its interpreter and its libraries fold what was added to its stores."""
    _become(artifact, ["--compact", *(["--state", str(state)] if state else [])])


def _become(artifact: Path, words: list[str]) -> NoReturn:
    program = artifact / "run"
    try:
        os.execv(program, [str(program), *words])  # noqa: S606 - no shell is meant
    except OSError as error:
        raise ServeError(f"the artifact cannot be started: {error.strerror}", where=str(program)) from error


def _eval_steps(ready: Prepared) -> list[tuple[str, str]]:
    """(step, name) of every evaluation that is done at build."""
    return [
        (step.name, name) for (kind, name), each in ready.compiled.items() if kind == "evals" for step in each.steps
    ]


def _results(ready: Prepared, outputs: Mapping[str, Path]) -> dict[str, Result]:
    return {name: read_result(outputs[step]) for step, name in _eval_steps(ready)}


def _gates(ready: Prepared) -> dict[str, Mapping[str, float]]:
    return {name: each.gates for name, each in ready.loaded.spec.evals.items()}


def _items(loaded: Loaded) -> list[Item]:
    root = loaded.path.parent
    return [
        Item(kind, name, entry.provider, entry, root)
        for kind in KINDS
        for name, entry in getattr(loaded.spec, kind).items()
    ] + state_item(loaded.spec, root)


def state_item(spec: Spec, root: Path) -> list[Item]:
    """What keeps responses: as the spec says, or SQLite where there are agents, whose runs are worth keeping."""
    state = spec.server.state or (State() if spec.agents else None)
    return [] if state is None or state.provider == "none" else [Item("server", "state", state.provider, state, root)]


def _check(items: list[Item], plugins: Mapping[str, Plugin], loaded: Loaded) -> None:
    problems = []
    for item in items:
        plugin = plugins[item.provider]
        if item.kind in plugin.kinds:
            problems += [replace(fault, path=(*item.path, *fault.path)) for fault in plugin.check(item)]
        else:
            message = f"{item.provider} serves {', '.join(plugin.kinds)}, not {item.kind}"
            problems.append(Problem((*item.path, "provider"), message))
    if problems:
        raise SpecError(loaded.located(problems))


def _platform_uris(
    target: Target,
    options: BaseModel,
    platform: Platform,
    compiled: Mapping[tuple[str, str], Compiled],
    accelerator: Accelerator | None,
) -> dict[str, str]:
    items = accelerating.requirements((wheel for each in compiled.values() for wheel in each.wheels), accelerator)
    requirements = {*RUNTIME_WHEELS, *target.wheels, *items}
    apart = {name: own for each in compiled.values() for name, own in each.apart.items()}
    for name, own in apart.items():
        wheels.require_python(platform, own.python, name)
    return {
        **target.sources(options, platform),
        wheels.SITE: wheels.source_uri(platform, sorted(requirements)),
        **{
            name: wheels.source_uri(platform, own.requirements, whole=True)
            for name, own in apart.items()
            if own.requirements
        },
    }


def _only(compiled: Iterable[Compiled]) -> dict[str, set[str]]:
    """The modules that ship of distributions that nobody needs as a whole."""
    modules: dict[str, set[str]] = {}
    whole: set[str] = set()
    for each in compiled:
        named = {prune.normalised(re.split(r"[^\w.-]", wheel, maxsplit=1)[0]) for wheel in each.wheels}
        whole |= named - each.only.keys()
        for name, own in each.only.items():
            modules.setdefault(name, set()).update(own)
    return {name: own for name, own in modules.items() if name not in whole}


def _wheel_folders(compiled: Mapping[tuple[str, str], Compiled]) -> tuple[str, ...]:
    """Folders of the bundle that hold wheels: the runtime's, and those of whoever keeps its own."""
    return (wheels.SITE, *(name for each in compiled.values() for name, own in each.apart.items() if own.requirements))


def _bundle(ready: Prepared, platform: Platform, outputs: Mapping[str, Path]) -> Bundle:
    others = {name for tag, names in ready.own.items() if tag != platform for name in names}
    shipped = []
    for planned in ready.plan.steps:
        step = planned.step
        if step.ship and step.name not in others:
            meta = ready.store.meta(planned.key)
            contents = {name: (digest.sha256, digest.size) for name, digest in meta.files.items()}
            shipped.append(bundle.Shipped(step, outputs[step.name], contents, meta.facts))
    return bundle.assemble(
        ready.loaded.spec,
        ready.target.name,
        platform,
        shipped,
        ready.compiled,
        build={"spec": ready.loaded.sha256, "lock": hashlib.sha256(lock.to_json(ready.lock)).hexdigest()}
        | gates.running(ready.loaded.spec.budgets),
        extras={name: outputs[step.name] for name, step in ready.target_steps[platform].items()},
    )
