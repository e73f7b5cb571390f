"""``builtin://NAME``: data that ships with lsbuild itself, as a folder of ``lsbuild_plugins/builtin``."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.sources import local
from lsbuild.sources.base import FetchContext
from lsbuild.suggest import did_you_mean


def fetch(rest: str, context: FetchContext) -> Source:
    """Every file of the folder ``rest``."""
    home = _home()
    names = sorted(entry.name for entry in home.iterdir() if entry.is_dir()) if home.is_dir() else []
    if rest not in names:
        raise SourceError(f"there is no '{rest}' in lsbuild.{did_you_mean(rest, names)}", where=context.uri)
    return local.fetch(rest, replace(context, root=home))


def _home() -> Path:
    spec = importlib.util.find_spec("lsbuild_plugins")
    if spec is None or spec.origin is None:
        raise SourceError("lsbuild_plugins is not installed", where="builtin://")
    return Path(spec.origin).parent / "builtin"
