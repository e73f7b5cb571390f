"""Shields for tests: compiled as the build does it, from shipped packs or from a pack written in the test."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from lsbuild_plugins.rules.compile import canonical, pack, rules
from lsbuild_plugins.rules.compile.step import PACKS
from lsbuild_plugins.rules.serve.format import Rules
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Verdict, Where

GENERAL = ("pii", "secrets", "prompt-injection", "profanity", "self-harm", "violence")
"""The shipped packs that fit any subject."""


@functools.cache
def table() -> dict[int, str]:
    """The table of the canonical view."""
    return canonical.table()


@functools.cache
def shipped(*names: str) -> tuple[pack.Pack, ...]:
    """Shipped packs by name."""
    return tuple(pack.read(PACKS / f"{name}.yaml", name) for name in names)


@functools.cache
def general() -> Shield:
    """A shield of all general packs."""
    return Shield(rules.compile_packs(shipped(*GENERAL), {}, table()))


def shield(*names: str, countries: Sequence[str] | None = None) -> Shield:
    """A shield of shipped packs, with the rules of these countries."""
    return Shield(rules.compile_packs(shipped(*names), {}, table(), countries=countries))


def compiled(text: str, folder: Path) -> Rules:
    """The rules of a pack given as YAML."""
    path = folder / "pack.yaml"
    path.write_text(text, encoding="utf-8")
    return rules.compile_packs([pack.read(path, "pack.yaml")], {}, table())


def streamed(shield: Shield, pieces: list[str], where: Where) -> Verdict:
    """What a guard makes of a text that comes in ``pieces``."""
    guard = shield.guard(where, Context())
    text = "".join(guard.feed(piece) for piece in pieces) + guard.end()
    return Verdict(guard.findings(), text, guard.blocked)
