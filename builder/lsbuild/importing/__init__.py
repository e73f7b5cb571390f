"""`lsbuild import`: a run.yaml of Llama Stack or a config.yaml of OGX to a spec; it fetches nothing and runs nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lsbuild.errors import StoreError
from lsbuild.importing import check, draft, models, report, rest, shields, stack, stores, tools
from lsbuild.importing.work import Finding, Work

__all__ = ["Imported", "convert", "write"]


@dataclass(frozen=True, slots=True)
class Imported:
    """The text of a spec that loads, and a line for each provider, resource and setting of the file it came from."""

    text: str
    findings: tuple[Finding, ...]


def convert(path: Path) -> Imported:
    """The spec that the file at ``path`` asks for. SpecError with every fault when it is no such file."""
    work = Work(stack.read(path))
    models.add(work)
    stores.add(work)
    shields.add(work)
    tools.add(work)
    rest.add(work)
    drafted, faults = check.accepted(work.draft(), str(path))
    by_entry = {".".join(map(str, each.path[:2])): each.message for each in faults}
    findings = tuple(_refused(each, by_entry) for each in work.findings)
    return Imported(draft.text(drafted, _head(path, findings)), findings)


def write(text: str, path: Path) -> None:
    """Write a spec to ``path``, which may not exist: what a user has edited is never written over."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise StoreError("the file exists already", where=str(path), hint="choose another --output") from error
    except OSError as error:
        raise StoreError(f"cannot write the spec: {error.strerror}", where=str(path)) from error


def _refused(finding: Finding, faults: dict[str, str]) -> Finding:
    if finding.became not in faults:
        return finding
    note = "; ".join(filter(None, (f"commented out, it is not accepted: {faults[finding.became]}", finding.note)))
    return replace(finding, status="attention", note=note)


def _head(path: Path, findings: tuple[Finding, ...]) -> list[str]:
    return [
        f"Written by `lsbuild import {path.name}`; numbers such as 12:5 are line and column there.",
        f"Of its parts: {report.summary(findings)}. The command lists them.",
    ]
