"""Whether a drafted spec is one: the loader and the providers' own checks; entries that are not accepted are switched off."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lsbuild import registry
from lsbuild.api import Item, Problem
from lsbuild.errors import SpecError
from lsbuild.importing import draft
from lsbuild.importing.draft import Draft
from lsbuild.spec.load import Loaded, load
from lsbuild.spec.model import Model, Shield, Tool, VectorStore


def accepted(drafted: Draft, name: str) -> tuple[Draft, Sequence[Problem]]:
    """``drafted`` without entries that no spec may hold (they are commented out), and what was said of them.

    SpecError, at ``name``, when the fault is of no entry.
    """
    faults: list[Problem] = []
    while found := problems(drafted):
        bad = {each.path[:2] for each in found} & {
            (entry.section, entry.name) for entry in drafted.entries if entry.active
        }
        if not bad:
            raise SpecError([Problem((), f"what it asks for is no spec: {each.message}", name) for each in found])
        faults += [each for each in found if each.path[:2] in bad]
        entries = [
            replace(entry, active=entry.active and (entry.section, entry.name) not in bad) for entry in drafted.entries
        ]
        drafted = replace(drafted, entries=tuple(entries))
    return drafted, faults


def problems(drafted: Draft) -> Sequence[Problem]:
    """Every fault of the spec that ``drafted`` is, with its path."""
    with tempfile.TemporaryDirectory(prefix="lsbuild-import-") as folder:
        path = Path(folder) / "spec.yaml"
        path.write_text(draft.text(drafted, ()), encoding="utf-8")
        try:
            loaded = load(path, environ={})
        except SpecError as error:
            return error.problems
        return _config_problems(loaded)


def _config_problems(loaded: Loaded) -> list[Problem]:
    known = registry.find()
    sections: Mapping[str, Mapping[str, Model | Shield | Tool | VectorStore]] = {
        "models": loaded.spec.models,
        "vector_stores": loaded.spec.vector_stores,
        "shields": loaded.spec.shields,
        "tools": loaded.spec.tools,
    }
    items = [
        Item(kind, name, entry.provider, entry, loaded.path.parent)
        for kind, section in sections.items()
        for name, entry in section.items()
    ]
    found = [(item, fault) for item in items for fault in known.plugin(item.provider).check(item)]
    return [replace(fault, path=(*item.path, *fault.path)) for item, fault in found]
