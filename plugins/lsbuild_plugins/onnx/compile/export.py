"""Exports an architecture that is not emitted here, with optimum-onnx in a locked environment of its own.

It runs only when the spec says ``config: {export: true}``: it installs several gigabytes. The checkpoint's own code is
never run (no trust_remote_code), and the exporter may not use the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from lsbuild.api import StepContext, StepError
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint

COST = "about 5 GB on disk where torch brings CUDA (Linux), 1 GB elsewhere; once"
"""What the environment costs; the error that offers the export says so."""


@contextmanager
def exported(checkpoint: Checkpoint, task: str, context: StepContext) -> Iterator[Checkpoint]:
    """Export and give a checkpoint with the graph beside the original's other files; it is gone after the block.

    Args:
        task: optimum's name: ``feature-extraction`` or ``text-generation-with-past``.
        context: option ``export`` is True, or the Python interpreter of an environment that has optimum-onnx.
    """
    wish = context.options["export"]
    context.progress(0, 3, f"environment for the export ({COST})")
    python = Path(wish) if isinstance(wish, str) else environment(context.cache)
    with tempfile.TemporaryDirectory(prefix="lsbuild-export-") as folder:
        model, out = Path(folder, "model"), Path(folder, "out")
        for name, path in checkpoint.files.items():
            place = model / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
        context.progress(1, 3, f"optimum: {task}")
        command = [str(python), "-m", "optimum.exporters.onnx", "--model", str(model), "--task", task, str(out)]
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        _run(command, "optimum could not export the model", os.environ | offline)
        context.progress(2, 3, "graph")
        kept = {name: path for name, path in checkpoint.files.items() if not name.endswith((".safetensors", ".onnx"))}
        made = {str(path.relative_to(out)): path for path in sorted(out.rglob("*.onnx*"))}
        yield Checkpoint(checkpoint.uri, kept | made)


def environment(cache: Path | None) -> Path:
    """The interpreter of the locked environment; made on first use, complete or not there at all."""
    if cache is None:
        raise StepError("there is no cache that could hold the environment of the export", hint="Build with the cache.")
    lock = resources.files(__package__ or "").joinpath("export.txt").read_bytes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = cache / "export" / f"{hashlib.sha256(lock).hexdigest()[:16]}-{version}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # another build may be making it
        if not (place / "complete").is_file():
            _make(place, lock)
    return place / "venv" / "bin" / "python"


def _make(place: Path, lock: bytes) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    requirements, venv, uv = place / "export.txt", str(place / "venv"), _uv()
    requirements.write_bytes(lock)
    _run([uv, "venv", "-q", "--python", sys.executable, venv], "uv could not make an environment")
    install = [uv, "pip", "install", "--python", venv, "--require-hashes", "-r", str(requirements)]
    _run(install, "uv could not install the exporter")
    (place / "complete").touch()


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise StepError("uv is not installed", hint="Install it: pip install uv.")
    return found


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 - a fixed command over files that were hashed
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines()[-12:]
        raise StepError(
            f"{failure} (exit status {done.returncode}): " + "\n    ".join(lines or ["no output"]),
            where=" ".join(command[:4]),
            hint="Export it yourself and give the .onnx file as the source, or set config: {export: /path/to/python} to "
            "use an environment that has optimum-onnx.",
        )
