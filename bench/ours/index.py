"""Runs the index step of `inline::sqlite-vec` with its own defaults: ``index SHARDS OUT`` prints what the step measured."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from bench.lines import peak_mb
from bench.ours.store import index_step
from lsbuild.api import StepContext


def main(shards: str, out: str) -> None:
    """SHARDS holds one folder for each shard, as ``bench.ours.shards`` writes them."""
    step = index_step()
    module, _, function = step.run.partition(":")
    folders = sorted(path for path in Path(shards).iterdir() if path.is_dir())
    context = StepContext(
        out=Path(out),
        options=step.options,
        sources={},
        inputs={f"passages.{number}": folder for number, folder in enumerate(folders)},
        progress=lambda _done, _total, _label: None,
    )
    context.out.mkdir(parents=True)
    facts = getattr(import_module(module), function)(context)
    print(json.dumps({"peak_mb": peak_mb(), "facts": facts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
