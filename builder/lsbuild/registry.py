"""Which plugins and targets there are: tables of ``"module:attr"`` strings, entry points and local folders.

Nothing is imported before it is asked for by name. A new provider in this repository is one line of a table here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lsbuild.api import Plugin, Problem, Target
from lsbuild.errors import LsbuildError, SpecError, TargetError
from lsbuild.suggest import did_you_mean

PLUGINS: Mapping[str, str] = {
    "inline::agent": "lsbuild_plugins.agent.plugin:PLUGIN",
    "inline::evals": "lsbuild_plugins.evals.plugin:PLUGIN",
    "inline::http": "lsbuild_plugins.http_tool.plugin:PLUGIN",
    "inline::llm-judge": "lsbuild_plugins.judge.plugin:PLUGIN",
    "inline::onnx": "lsbuild_plugins.onnx.plugin:PLUGIN",
    "inline::python": "lsbuild_plugins.python_tool.plugin:PLUGIN",
    "inline::prompts": "lsbuild_plugins.prompts.plugin:PLUGIN",
    "inline::rules": "lsbuild_plugins.rules.plugin:PLUGIN",
    "inline::route": "lsbuild_plugins.route.plugin:PLUGIN",
    "inline::sqlite": "lsbuild_plugins.sqlite.plugin:PLUGIN",
    "inline::sqlite-vec": "lsbuild_plugins.sqlite_vec.plugin:PLUGIN",
    "inline::tools": "lsbuild_plugins.tools.plugin:PLUGIN",
    "inline::workflow": "lsbuild_plugins.workflow.plugin:PLUGIN",
    "remote::mcp": "lsbuild_plugins.mcp.plugin:PLUGIN",
    "remote::openai": "lsbuild_plugins.openai.plugin:PLUGIN",
    "remote::pgvector": "lsbuild_plugins.pgvector.plugin:PLUGIN",
    "remote::postgres": "lsbuild_plugins.postgres.plugin:PLUGIN",
}
TARGETS: Mapping[str, str] = {
    "container": "lsbuild_targets.container.target:TARGET",
    "host": "lsbuild_targets.host:TARGET",
    "jetson": "lsbuild_targets.jetson.target:TARGET",
    "lambda": "lsbuild_targets.aws_lambda.target:TARGET",
    "rpi": "lsbuild_targets.rpi.target:TARGET",
}


@dataclass(frozen=True, slots=True)
class Registry:
    """The names that a build may use, each with the ``"module:attr"`` that defines it.

    ``paths`` are folders that local plugins are imported from; the processes that run steps need them too.
    """

    plugins: Mapping[str, str] = field(default_factory=lambda: dict(PLUGINS))
    targets: Mapping[str, str] = field(default_factory=lambda: dict(TARGETS))
    paths: tuple[Path, ...] = ()

    def plugin(self, provider: str, path: Sequence[str | int] = (), where: str = "") -> Plugin:
        """The compile half of ``provider``; SpecError (at ``path``, ``where``) when there is none of that name."""
        entry = self.plugins.get(provider)
        if entry is None:
            message = f"unknown provider '{provider}'.{did_you_mean(provider, self.plugins)}"
            raise SpecError([Problem(tuple(path), message, where)])
        return cast("Plugin", attribute(entry))

    def target(self, name: str) -> Target:
        """The target of that name; TargetError when there is none."""
        entry = self.targets.get(name)
        if entry is None:
            raise TargetError(f"unknown target '{name}'.{did_you_mean(name, self.targets)}")
        return cast("Target", attribute(entry))


def find(folders: Sequence[str] = (), root: Path | None = None) -> Registry:
    """The built-in tables, what installed packages add by entry points, and local plugin ``folders`` of a spec.

    Entry points (groups ``lsbuild.plugins`` and ``lsbuild.targets``) are named by provider or target. A local folder is
    a Python package whose ``plugin.py`` exports ``PLUGIN``; it is imported here, since only it knows its provider's name.
    """
    plugins = dict(PLUGINS) | _entries("lsbuild.plugins")
    targets = dict(TARGETS) | _entries("lsbuild.targets")
    paths: list[Path] = []
    for index, folder in enumerate(folders):
        place = ((root or Path.cwd()) / folder).resolve()
        module = _local(place, ("plugins", index))
        plugins[attribute(f"{module}:PLUGIN").provider] = f"{module}:PLUGIN"
        if place.parent not in paths:
            paths.append(place.parent)
    return Registry(plugins, targets, tuple(paths))


def plugin(provider: str) -> Plugin:
    """The compile half of a built-in or installed provider; SpecError when there is none of that name."""
    return find().plugin(provider)


def target(name: str) -> Target:
    """The target of that name; TargetError when there is none."""
    return find().target(name)


def target_names() -> tuple[str, ...]:
    """Every target name, without importing one."""
    return tuple(sorted(dict(TARGETS) | _entries("lsbuild.targets")))


def attribute(entry: str) -> Any:
    """Import ``"module:attr"``; LsbuildError when the module or the attribute is missing."""
    module, _, name = entry.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LsbuildError(
            f"{entry} cannot be loaded: {error}",
            where=entry,
            hint="Install the package it belongs to, or correct the entry point that names it.",
        ) from error


def _entries(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # 0.08 CPU seconds that a step's process need not pay

    return {entry.name: entry.value for entry in entry_points(group=group)}


def _local(place: Path, path: tuple[str | int, ...]) -> str:
    if not (place / "plugin.py").is_file():
        raise SpecError([Problem(path, f"{place.name}: no plugin.py in this folder, which must export PLUGIN")])
    parent = str(place.parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    return f"{place.name}.plugin"
