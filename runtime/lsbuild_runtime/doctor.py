"""``run doctor``: what this machine has of what the artifact wants, and what to do about the rest; it changes nothing.

It needs the standard library alone, of any Python since 3.9, and asks onnxruntime in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsbuild_runtime import nvidia

_PROVIDERS = (
    "import os, sys; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; sys.path.insert(0, sys.argv[1]); "
    "import onnxruntime as o; print(o.__version__, *o.get_available_providers())"
)
_SECONDS = 120
_DISK = 2 << 30
"""Bytes that engines may take, with what TensorRT writes while it builds them."""
_PACKAGES = {
    "libcuda": "the driver: it comes with Jetson Linux, and on a server with NVIDIA's driver package",
    "libcudart": "apt-get install cuda-runtime of NVIDIA's package archive",
    "libcublas": "apt-get install cuda-runtime of NVIDIA's package archive",
    "libcudnn": "apt-get install cudnn of NVIDIA's package archive",
    "libnvinfer": "apt-get install tensorrt of NVIDIA's package archive",
}

Json = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Print what was found; 0 when the artifact has what it wants, 1 when it has not."""
    parser = argparse.ArgumentParser(prog="run doctor", description="What this machine has of what the artifact wants.")
    parser.add_argument("word", choices=["doctor"], help="this command")
    parser.add_argument("--root", required=True, help="folder that holds manifest.json")
    parser.add_argument("--state", help="the server's state folder (default: LSBUILD_STATE or systemd's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(list(arguments))
    found = examine(Path(options.root), _state(options.state), nvidia.facts())
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else to_text(found))
    return 0 if not found["faults"] else 1


def examine(root: Path, state: Path | None, facts: nvidia.Facts) -> Json:
    """Everything that is told. ``faults`` keep models from where they should run, ``advice`` does not."""
    manifest = _manifest(root)
    execution = _execution(manifest)
    found: Json = {
        "artifact": {
            "name": manifest.get("name", ""),
            "platform": manifest.get("platform", ""),
            "execution": execution,
        },
        "system": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "l4t": facts.l4t,
            "memory": _memory(),
            "disk_free": _disk(state or root),
            "power": _power(),
        },
        "nvidia": {**facts._asdict(), "missing": dict(facts.missing)},
        "onnxruntime": _onnxruntime(root),
        "engines": _engines(state),
    }
    found["faults"] = list(_faults(found, execution))
    found["advice"] = list(_advice(found, execution))
    return found


def to_text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    system, gpu, engine = found["system"], found["nvidia"], found["onnxruntime"]
    wanted = found["artifact"]["execution"]
    lines = [
        f"artifact     {found['artifact']['name']} for {found['artifact']['platform']}"
        + (f", models on {', '.join(wanted['providers'])}" if wanted else ", models on the CPU"),
        f"machine      {system['machine']}, kernel {system['kernel']}, Python {system['python']}"
        + (f", Jetson Linux {system['l4t']}" if system["l4t"] else ""),
        f"memory       {system['memory'] / 2**30:.1f} GiB; free on disk {system['disk_free'] / 2**30:.1f} GiB",
        f"power        {system['power'] or 'no nvpmodel here'}",
        f"GPU          {gpu['gpu'] or 'none found'}" + (f", sm_{gpu['sm']}" if gpu["sm"] else ""),
        *(f"{name:<13}{gpu[key] or 'not found'}" for name, key in _VERSIONS),
        f"onnxruntime  {engine.get('version', '')} {', '.join(engine.get('providers', ())) or engine.get('fault', '')}",
        f"engines      {', '.join(found['engines']) or 'none built yet'}",
    ]
    lines += [f"missing      {fault}" for fault in found["faults"]]
    lines += [f"advice       {line}" for line in found["advice"]]
    return "\n".join(lines) + "\n"


_VERSIONS = (("driver", "driver"), ("CUDA", "cuda"), ("cuDNN", "cudnn"), ("TensorRT", "tensorrt"))


def _faults(found: Mapping[str, Any], execution: Mapping[str, Any]) -> Iterator[str]:
    machine, wanted = found["system"]["machine"], found["artifact"]["platform"]
    if wanted and f"-{machine}-" not in wanted:
        yield f"this machine is {machine}, the artifact is for {wanted}"
    python = re.search(r"-cp(\d)(\d+)$", wanted)
    ours = python is None or (int(python[1]), int(python[2])) == sys.version_info[:2]
    if python and not ours and shutil.which(f"python{python[1]}.{python[2]}") is None:
        yield f"no python{python[1]}.{python[2]} on PATH, which the artifact runs on"
    if "fault" in found["onnxruntime"]:
        yield f"onnxruntime cannot be loaded: {found['onnxruntime']['fault']}"
    order = execution.get("providers", ["cpu"])
    for library in nvidia.NEEDED.get(order[0], ()):
        if library in found["nvidia"]["missing"] and not (execution.get("bundled") and library != "libcuda"):
            yield f"{library}, for {order[0]} ({found['nvidia']['missing'][library]}): {_PACKAGES[library]}"
    sm, built = found["nvidia"]["sm"], str(execution.get("sm") or "")
    if built and sm and sm != built:
        yield f"this GPU is sm_{sm}, the artifact was built for sm_{built}: set the module of your device in the spec"


def _advice(found: Mapping[str, Any], execution: Mapping[str, Any]) -> Iterator[str]:
    if not execution:
        yield "the artifact was built for the CPU: name an onnxruntime for the GPU in the spec (docs/jetson.md)"
        return
    if found["faults"] and not execution.get("strict"):
        yield "strict is off: until then models run on the next of " + ", ".join(execution["providers"])
    if execution["providers"][0] == "tensorrt" and not found["engines"]:
        yield "the first start builds engines, which takes minutes; /v1/health says how far it is"
    if found["system"]["disk_free"] < _DISK:
        yield "less than 2 GiB are free on the disk: engines may not fit"
    power, wanted = found["system"]["power"], execution.get("power")
    if wanted is not None and power and not power.endswith(f"(mode {wanted})"):
        yield f"the power mode is {power}, the spec wants mode {wanted}: sudo nvpmodel -m {wanted}"


def _manifest(root: Path) -> Json:
    try:
        value = json.loads((root / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _execution(manifest: Mapping[str, Any]) -> Json:
    """Where the models are told to run; {} for the CPU alone."""
    for service in manifest.get("services", ()):
        execution: Json = service.get("config", {}).get("execution", {})
        if execution:
            return execution
    return {}


def _state(wanted: str | None) -> Path | None:
    given = wanted or os.environ.get("LSBUILD_STATE") or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else None


def _memory() -> int:
    try:
        match = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def _disk(folder: Path) -> int:
    """Bytes that are free where ``folder`` is or will be."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    return shutil.disk_usage(str(there)).free


def _power() -> str:
    """The power mode that nvpmodel tells, "" where there is none."""
    said = _said(["nvpmodel", "-q"])
    match = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", said)
    return f"{match[1]} (mode {match[2]})" if match else ""


def _onnxruntime(root: Path) -> Json:
    """Its version and providers, asked in a process of its own: a wheel of another Python must not end this one."""
    site = root / "site"
    if not (site / "onnxruntime" / "__init__.py").is_file():
        # Encoders on a CPU need its library alone.
        versions = [path.name.split("-")[1] for path in site.glob("onnxruntime-*.dist-info")]
        return {"version": versions[0].removesuffix(".dist"), "providers": ["CPUExecutionProvider"]} if versions else {}
    try:
        done = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-I", "-S", "-B", "-c", _PROVIDERS, str(site)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"fault": str(error)}
    words = done.stdout.split()
    if done.returncode or not words:
        said = done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"]
        return {"fault": said[-1][:300]}
    return {"version": words[0], "providers": words[1:]}


def _engines(state: Path | None) -> list[str]:
    """Names of the models whose engines are built."""
    folder = state / "engines" if state is not None else None
    if folder is None or not os.access(str(folder), os.R_OK | os.X_OK) or not folder.is_dir():
        return []
    return sorted(model.name for model in folder.iterdir() if any(model.glob("[!.]*/*.engine")))


def _said(words: Sequence[str]) -> str:
    path = shutil.which(words[0]) or shutil.which(words[0], path="/usr/sbin:/sbin")
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH
            [path, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
