"""What was built, planned or resolved, as JSON and as text for people; it decides nothing and prints nothing."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lsbuild import found
from lsbuild.api import Artifact, Bundle, Json
from lsbuild.inspection import components, tools
from lsbuild.plan import Plan, Planned
from lsbuild.running.store import Store
from lsbuild.spec.load import Loaded, explain, resolved

_BAR = 28
_WIDTH = 110


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a finished build. Seconds and bytes are those of the run that made the object."""

    name: str
    reason: str
    cached: bool
    seconds: float
    cpu_seconds: float
    rss: int
    size: int
    facts: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Report:
    """A finished build. ``compile_s`` is wall time up to the last step, ``pack_s`` what the target took."""

    name: str
    target: str
    artifact: Artifact
    bundles: tuple[Bundle, ...]
    steps: tuple[StepRow, ...]
    compile_s: float
    pack_s: float


def step_row(planned: Planned, store: Store) -> StepRow:
    """The row of one step, with what the store recorded when it was made."""
    meta = store.meta(planned.key)
    return StepRow(
        planned.step.name,
        planned.reason,
        planned.cached,
        meta.seconds,
        meta.cpu_seconds,
        meta.rss,
        meta.size,
        meta.facts,
    )


def to_dict(report: Report) -> dict[str, Any]:
    """For ``--json``: sizes in bytes, times in seconds."""
    return {
        "name": report.name,
        "target": report.target,
        "artifact": {
            "path": str(report.artifact.path.absolute()),
            "sha256": report.artifact.sha256,
            "size": report.artifact.size,
            "media": report.artifact.media,
            "packed": dict(report.artifact.packed),
        },
        "components": components(report.bundles[0].manifest),
        "platforms": [bundle.platform.tag for bundle in report.bundles],
        "steps": [
            {
                "name": row.name,
                "reason": row.reason,
                "cached": row.cached,
                "seconds": round(row.seconds, 3),
                "cpu_seconds": round(row.cpu_seconds, 3),
                "rss": row.rss,
                "size": row.size,
                "facts": dict(row.facts),
            }
            for row in report.steps
        ],
        "warnings": warnings(report.steps),
        "skipped": [dict(each) for row in report.steps for each in _skipped(row)],
        "ran": sum(not row.cached for row in report.steps),
        "compile_s": round(report.compile_s, 3),
        "pack_s": round(report.pack_s, 3),
    }


def to_text(report: Report) -> str:
    """For people: where it is, what is in it, how large each part is."""
    ran = sum(not row.cached for row in report.steps)
    lines = []
    for bundle in report.bundles:
        sizes = components(bundle.manifest)
        total = sum(sizes.values())
        lines.append(f"{report.name} for {report.target} ({bundle.platform.tag}), {total / 1e6:.1f} MB unpacked")
        lines += [_size_line(name, size, total) for name, size in sizes.items()]
        lines.append("")
    services = report.bundles[0].manifest.services if report.bundles else ()
    groups = [(service.name, tools(service)) for service in services]
    lines += [f"  tools.{name}: {said}" for name, said in groups if said]
    for row in report.steps:
        shown = ", ".join(
            f"{key} {_shown(value)}" for key, value in row.facts.items() if isinstance(value, int | float | str)
        )
        if shown:
            lines += textwrap.wrap(f"{row.name}: {shown}", _WIDTH, initial_indent="  ", subsequent_indent="      ")
        lines += [f"  {line}" for line in found.lines(row.name, row.facts.get("found", ()))]
    for text in warnings(report.steps):
        lines += textwrap.wrap(f"warning: {text}", _WIDTH, initial_indent="  ", subsequent_indent="      ")
    lines += [f"  left out: {each['path']}: {each['reason']}" for row in report.steps for each in _skipped(row)]
    lines += [
        "",
        f"steps     {ran} run, {len(report.steps) - ran} cached; {report.compile_s:.1f} s, packed in {report.pack_s:.1f} s",
        f"artifact  {report.artifact.path} ({report.artifact.media}, {report.artifact.size / 1e6:.1f} MB)",
        *(f"packed    {name}, {size / 1e6:.1f} MB" for name, size in report.artifact.packed.items()),
        f"sha256    {report.artifact.sha256}",
    ]
    return "\n".join(lines)


def warnings(rows: Iterable[StepRow]) -> list[str]:
    """What steps say people should know, also those that were cached, with their names; it stops no build."""
    return [f"{row.name}: {text}" for row in rows for text in row.facts.get("warnings", ())]


def _skipped(row: StepRow) -> list[Mapping[str, str]]:
    """The documents that a step could not read and was allowed to leave out."""
    found = row.facts.get("skipped")
    return found if isinstance(found, list) else []


def plan_dict(plan: Plan) -> dict[str, Any]:
    """For ``lsbuild plan --json``."""
    steps = [
        {"name": each.step.name, "key": each.key, "reason": each.reason, "cached": each.cached} for each in plan.steps
    ]
    return {"ok": True, "steps": steps, "to_run": len(plan.missing)}


def plan_text(plan: Plan) -> str:
    """The very list that a build would run."""
    width = max((len(each.step.name) for each in plan.steps), default=0)
    lines = [f"{'run ' if not each.cached else '    '}{each.step.name:<{width}}  {each.reason}" for each in plan.steps]
    return "\n".join([*lines, f"{len(plan.missing)} of {len(plan.steps)} steps would run"])


def config_dict(loaded: Loaded) -> dict[str, Any]:
    """The resolved spec, for ``lsbuild config --json``."""
    return resolved(loaded)


def config_text(loaded: Loaded) -> str:
    """The resolved spec as YAML that can be compiled again."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(resolved(loaded), text)
    return text.getvalue().rstrip()


def explain_dict(loaded: Loaded) -> list[dict[str, Any]]:
    """Every value with its origin, for ``lsbuild config --explain --json``."""
    return [
        {"path": row.path, "value": row.value, "kind": row.origin.kind, "where": row.origin.where}
        for row in explain(loaded)
    ]


def explain_text(loaded: Loaded) -> str:
    """One line for each value: path, value, where it came from."""
    rows = [(row.path, json.dumps(row.value, ensure_ascii=False), row.origin) for row in explain(loaded)]
    left = max((len(path) for path, _, _ in rows), default=0)
    middle = min(48, max((len(value) for _, value, _ in rows), default=0))
    return "\n".join(
        f"{path:<{left}}  {value:<{middle}}  {origin.where or origin.kind}" for path, value, origin in rows
    )


def cache_dict() -> dict[str, Any]:
    """For ``lsbuild cache --json``."""
    store = Store.here()
    listed = store.objects()
    count, size = store.remembered()
    return {
        "path": str(store.root),
        "objects": len(listed),
        "size": sum(each.size for each in listed),
        "remembered": {"values": count, "size": size},
        "steps": [{"key": each.key, "step": each.step, "size": each.size} for each in listed],
    }


def cache_text() -> str:
    """Where the cache is, how large it is, and its ten largest objects."""
    found = cache_dict()
    kept = found["remembered"]
    remembered = f"{kept['values']} values that steps remember, {kept['size'] / 1e6:.1f} MB"
    lines = [f"{found['path']}: {found['objects']} objects, {found['size'] / 1e6:.1f} MB; {remembered}"]
    largest = sorted(found["steps"], key=lambda row: -row["size"])[:10]
    lines += [f"  {row['size'] / 1e6:9.2f} MB  {row['step']}  {row['key'][:12]}" for row in largest]
    return "\n".join(lines)


def _size_line(name: str, size: int, total: int) -> str:
    share = size / total if total else 0.0
    return f"  {size / 1e6:9.2f} MB  {share:4.0%}  {'█' * round(share * _BAR):<{_BAR}} {name}"


def _shown(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
