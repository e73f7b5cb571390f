"""The documentation names every command, option, exit code, provider and target that there is."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

import lsbuild_plugins
import lsbuild_targets
from lsbuild import cli, errors, registry

DOCS = Path(__file__).parents[2] / "docs"


def _commands(group: click.Group, prefix: str = "lsbuild") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix} {name}")


COMMANDS = dict(_commands(cli.main))
OPTIONS = sorted(
    {
        max(parameter.opts, key=len)
        for command in COMMANDS.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("lsbuild build", "lsbuild cache info")])
def test_every_command_is_documented(name: str) -> None:
    assert f"`{name}" in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_documented(option: str) -> None:
    assert f"`{option}" in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def _error_classes() -> list[type[errors.LsbuildError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [kind for kind in found if issubclass(kind, errors.LsbuildError)]


def test_every_exit_code_is_documented_and_belongs_to_one_class() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", (DOCS / "commands.md").read_text(), re.MULTILINE)}
    codes = [kind.exit_code for kind in _error_classes()]
    assert set(codes) | {0} == documented
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("name", sorted(registry.TARGETS))
def test_every_target_is_documented(name: str) -> None:
    assert f"## {name}" in (DOCS / "targets.md").read_text()


def _settings() -> Iterator[tuple[str, str]]:
    """Every setting that a provider or a target of ours has of its own, with the module that says so."""
    for package in (lsbuild_plugins, lsbuild_targets):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".serve" not in info.name:
                for kind in vars(importlib.import_module(info.name)).values():
                    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == info.name:
                        yield from ((info.name, field.alias or name) for name, field in kind.model_fields.items())


@pytest.mark.parametrize(("module", "name"), sorted(set(_settings())))
def test_every_setting_of_a_provider_and_of_a_target_is_documented(module: str, name: str) -> None:
    pages = "\n".join(path.read_text() for path in DOCS.glob("*.md"))
    assert re.search(rf"(?:^|[`{{( .]){re.escape(name)}[`:]", pages, re.M), (
        f"{module} has {name}, and no page of docs/ names it"
    )


@pytest.mark.parametrize("name", sorted(registry.PLUGINS))
def test_every_provider_is_documented(name: str) -> None:
    assert any(f"`{name}`" in path.read_text() for path in DOCS.glob("*.md"))


def test_links_of_the_documentation_lead_somewhere() -> None:
    root = DOCS.parent
    for page in [*DOCS.glob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
