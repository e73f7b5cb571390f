"""Decides what has to run and why; pure: it reads no disk, no network and no clock.

Everything from outside (hashes of code, versions, what the store holds, the last build) is handed in. The form follows
craft-parts' sequencer and osbuild's ids: a step's key chains from the keys of the steps it needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from lsbuild.api import CPU_ONLY, Compiled, Given, Item, Json, Plugin, Problem, Source, Step
from lsbuild.errors import SpecError, StepError
from lsbuild.facts import Facts, code_of
from lsbuild.suggest import did_you_mean

KEY_SCHEMA = 1
"""Raised when the meaning of a key changes, so that no older object is taken for a newer one."""


class StepRecord(msgspec.Struct, frozen=True):
    """What a key was made of; kept from one build to the next only to say *why* a step runs again."""

    key: str
    run: str
    options: dict[str, Json]
    sources: dict[str, dict[str, str]]
    needs: dict[str, str]
    code: dict[str, str]
    tools: dict[str, str]


_MODELS = {"models": ("agents",), "agents": ("workflows",)}
"""Sections whose entries can stand for those of another."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A step with its content key and the reason, for people, why it runs (or "cached").

    ``memo`` is the salt of what the step remembers from run to run: all that its key is made of but its sources and the
    options it ``forgets``.
    """

    step: Step
    key: str
    reason: str
    cached: bool
    memo: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step of one build, each after those it needs. ``records`` belongs into the history when the build is done."""

    steps: tuple[Planned, ...]
    records: Mapping[str, StepRecord]

    def step(self, name: str) -> Planned:
        """The planned step of that name; KeyError when there is none."""
        for planned in self.steps:
            if planned.step.name == name:
                return planned
        raise KeyError(name)

    def only(self, names: Iterable[str]) -> Plan:
        """The steps of these names and all that they need."""
        steps = {planned.step.name: planned for planned in self.steps}
        kept: set[str] = set()
        asked = list(names)
        while asked:
            name = asked.pop()
            asked += () if name in kept else steps[name].step.needs.values()
            kept.add(name)
        return replace(self, steps=tuple(planned for planned in self.steps if planned.step.name in kept))

    @property
    def missing(self) -> tuple[Planned, ...]:
        """The steps that have to run."""
        return tuple(planned for planned in self.steps if not planned.cached)


def compile_items(
    items: Sequence[Item],
    plugins: Mapping[str, Plugin],
    sources: Mapping[str, Source],
    providers: tuple[str, ...] = CPU_ONLY,
) -> dict[tuple[str, str], Compiled]:
    """Ask each item's plugin for its steps, in the order of who refers to whom.

    ``plugins`` by provider name; ``sources`` by the URI that ``Plugin.sources`` returned; ``providers`` as of Given.
    SpecError for a circle, for a reference to nothing and for every Problem that ``Plugin.check`` found (paths start at
    the spec's root).
    """
    problems = [
        Problem((*item.path, *problem.path), problem.message, problem.where)
        for item in items
        for problem in plugins[item.provider].check(item)
    ]
    if problems:
        raise SpecError(problems)
    refers = references(items, plugins)

    def peers_of(path: tuple[str, str]) -> list[tuple[str, str]]:
        return [each for peer in refers[path] for each in (*peers_of(peer), peer)]

    compiled: dict[tuple[str, str], Compiled] = {}
    for item in in_order(items, plugins):
        plugin = plugins[item.provider]
        given = Given(
            sources={local: sources[uri] for local, uri in plugin.sources(item).items()},
            peers={peer: compiled[peer] for peer in peers_of(item.path)},
            providers=providers,
        )
        compiled[item.path] = plugin.compile(item, given)
    return compiled


def references(
    items: Sequence[Item], plugins: Mapping[str, Plugin]
) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """What each item refers to. Agents and workflows are models too: who names a model or an agent may mean them."""
    paths = {item.path for item in items}

    def meant(path: tuple[str, str]) -> tuple[str, str]:
        stand_ins = [(kind, path[1]) for kind in _MODELS.get(path[0], ())]
        return path if path in paths else next((each for each in stand_ins if each in paths), path)

    return {item.path: tuple(meant(path) for path in plugins[item.provider].refers(item)) for item in items}


def in_order(items: Sequence[Item], plugins: Mapping[str, Plugin]) -> list[Item]:
    """``items`` with every item after those it refers to, otherwise in the order given."""
    by_path = {item.path: item for item in items}
    refers = references(items, plugins)
    for path, peers in refers.items():
        for peer in peers:
            if peer not in by_path:
                known = [name for kind, name in by_path if kind == peer[0]]
                raise SpecError([Problem(path, f"{_dotted(peer)} does not exist.{did_you_mean(peer[1], known)}")])
    ordered: list[Item] = []
    done: set[tuple[str, str]] = set()

    def visit(path: tuple[str, str], above: tuple[tuple[str, str], ...]) -> None:
        if path in above:
            circle = " -> ".join(_dotted(each) for each in (*above[above.index(path) :], path))
            raise SpecError([Problem(path, f"these refer to each other in a circle: {circle}")])
        if path in done:
            return
        for peer in refers[path]:
            visit(peer, (*above, path))
        done.add(path)
        ordered.append(by_path[path])

    for item in items:
        visit(item.path, ())
    return ordered


def plan(
    steps: Iterable[Step], *, facts: Facts, known: Callable[[str], bool], previous: Mapping[str, StepRecord]
) -> Plan:
    """Give every step its key and a reason.

    ``known(key)`` says whether the store holds an object; ``previous`` are the records of the last build of this spec,
    by step name. StepError when two steps share a name, a needed step is missing, needs form a circle, or an option is
    not JSON: faults of a plugin, not of the user.
    """
    planned: list[Planned] = []
    records: dict[str, StepRecord] = {}
    fresh: set[str] = set()
    for step in _sorted(steps):
        record = _record(step, facts, records)
        cached = known(record.key)
        reason = "cached" if cached else _reason(step, record, previous.get(step.name), fresh)
        if not cached:
            fresh.add(step.name)
        records[step.name] = record
        planned.append(Planned(step, record.key, reason, cached, _salt(step, record)))
    return Plan(tuple(planned), records)


def _sorted(steps: Iterable[Step]) -> list[Step]:
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise StepError("two steps have this name; a plugin must name its steps after its item", where=step.name)
        by_name[step.name] = step
    ordered: list[Step] = []
    state: dict[str, str] = {}

    def visit(name: str, above: str) -> None:
        step = by_name.get(name)
        if step is None:
            raise StepError(
                f"needs {name}, which is not a step of this build.{did_you_mean(name, by_name)}", where=above
            )
        if state.get(name) == "open":
            raise StepError(f"needs {name}, which needs it in turn", where=above)
        if name not in state:
            state[name] = "open"
            for need in step.needs.values():
                visit(need, name)
            state[name] = "done"
            ordered.append(step)

    for name in by_name:
        visit(name, name)
    return ordered


def _record(step: Step, facts: Facts, done: Mapping[str, StepRecord]) -> StepRecord:
    parts: dict[str, Json] = {
        "run": step.run,
        "options": step.options,
        "sources": {
            local: {file.path: file.sha256 for file in source.files} for local, source in sorted(step.sources.items())
        },
        "needs": {local: done[name].key for local, name in sorted(step.needs.items())},
        "code": {name: facts.code[name] for name in code_of(step)},
        "tools": {name: facts.tools[name] for name in step.tools},
    }
    try:
        key = _hash(parts)
    except (TypeError, ValueError) as error:
        raise StepError(f"an option is not a JSON value: {error}", where=step.name) from error
    options = json.loads(json.dumps(step.options))
    return StepRecord(key=key, **{**parts, "options": options})


def _salt(step: Step, record: StepRecord) -> str:
    options = {name: value for name, value in record.options.items() if name not in step.forgets}
    return _hash(
        {"run": record.run, "options": options, "needs": record.needs, "code": record.code, "tools": record.tools}
    )


def _hash(parts: Mapping[str, Json]) -> str:
    text = json.dumps({"schema": KEY_SCHEMA, **parts}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(step: Step, now: StepRecord, before: StepRecord | None, fresh: set[str]) -> str:
    if before is None:
        return "not built before"
    if before.key == now.key:
        return "its output is gone from the cache"
    again = [name for name in step.needs.values() if name in fresh]
    changes = [
        *_changed_options(before.options, now.options),
        *_changed_files(step, before.sources, now.sources),
        *(f"{name} changed" for name in _differ(before.code, now.code)),
        *(f"{name} {before.tools.get(name) or 'none'} -> {now.tools.get(name) or 'none'}"
          for name in _differ(before.tools, now.tools)),
        *(f"needs {name}, which runs again" for name in dict.fromkeys(again)),
    ]  # fmt: skip
    if not changes and before.run != now.run:
        changes = [f"{before.run} -> {now.run}"]
    if not changes:
        changes = ["its inputs changed"]
    return "; ".join(changes[:3]) + (f"; {len(changes) - 3} more" if len(changes) > 3 else "")


def _changed_options(before: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    names = _differ(before, now)
    return [f"options changed: {', '.join(names)}"] if names else []


def _changed_files(
    step: Step, before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> list[str]:
    lines: list[str] = []
    for local in sorted(before.keys() | now.keys()):
        old, new = before.get(local, {}), now.get(local, {})
        where = _folder(step.sources[local]) if local in step.sources else ""
        lines += [f"{where}{path} changed" for path in sorted(old.keys() & new.keys()) if old[path] != new[path]]
        lines += [f"{where}{path} added" for path in sorted(new.keys() - old.keys())]
        lines += [f"{where}{path} removed" for path in sorted(old.keys() - new.keys())]
    return lines


def _folder(source: Source) -> str:
    """What to put before a file's name so that a person finds it: the folder that the spec names, else nothing."""
    uri = source.uri
    names = {file.path for file in source.files}
    if "/" not in uri or any(sign in uri for sign in "*?["):
        return ""
    place = uri.removeprefix("./").rstrip("/")
    above, _, last = place.rpartition("/")
    return f"{above if last in names else place}/".lstrip("/") if above or last not in names else ""


def _differ(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _dotted(path: tuple[str, str]) -> str:
    return ".".join(path)
