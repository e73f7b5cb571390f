"""Compiled inputs that several groups share, made once per state of the code and kept in the cache; it measures nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from bench.environment import CACHE, minilm, ours, peer
from bench.models import llm_135m
from bench.worker import ROOT, run

FORMATS = {"int4": "Q4_0", "int8": "Q8_0"}
"""Our format -> the one of llama.cpp that is nearest in size."""


def decoder(quantize: str) -> Path:
    """The 135M model compiled by the code as it stands now."""
    return _compiled("decoder", llm_135m(CACHE), quantize)


def encoder(quantize: str) -> Path:
    """MiniLM compiled by the code as it stands now."""
    return _compiled("encoder", minilm(), quantize)


def reranker(source: Path, quantize: str) -> Path:
    """A cross-encoder compiled by the code as it stands now."""
    return _compiled("reranker", source, quantize)


def gguf(quantize: str) -> Path:
    """The 135M model as llama.cpp wants it."""
    path = CACHE / f"llm-135m.{FORMATS[quantize]}.gguf"
    if not path.exists():
        partial = path.with_suffix(".partial")
        run(peer("quantise", llm_135m(CACHE), partial, FORMATS[quantize]))
        partial.replace(path)
    return path


def code_state(folders: Iterable[Path]) -> str:
    """Twelve hex digits over names and contents of every Python file below ``folders``."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _compiled(kind: str, source: Path, quantize: str) -> Path:
    state = code_state([ROOT / "plugins" / "lsbuild_plugins" / "onnx"])
    out = CACHE / f"{'minilm' if kind == 'encoder' else source.name}.{quantize}.{state}"
    if not out.exists():
        for old in CACHE.glob(f"{out.name.rsplit('.', 1)[0]}.*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        run(ours("compile_model", kind, source, quantize, partial))
        partial.rename(out)
    return out
