"""Text to a checked Spec: parse, merge the target, substitute, validate; every fault at once, each with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild.spec.marks import Origin
from lsbuild.spec.model import Spec


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec for one target. ``origins`` says for the path of every written value and key where it came from.

    ``target_options`` are the keys under ``targets.TARGET`` that are the target's own; ``sha256`` is of the file's bytes.
    """

    spec: Spec
    target: str
    target_options: Mapping[str, Any]
    origins: Mapping[tuple[str | int, ...], Origin]
    sha256: str
    path: Path


def load(path: Path, *, target: str | None = None, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Loaded:
    raise NotImplementedError
