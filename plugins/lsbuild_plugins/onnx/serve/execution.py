"""Where a model is to run, as its service says, and what of that is possible here; arithmetic only, it opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.manifest import Service

Precision = Literal["fp32", "fp16", "int8"]
NAMES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our names of execution providers -> onnxruntime's."""
CPU = "cpu"


class Execution(Struct, frozen=True, forbid_unknown_fields=True):
    """``config.execution`` of a service.

    ``providers`` are tried in their order. ``strict``: when the first that can run the graph does not take it, the model is
    not opened. ``workspace`` and ``memory`` are the most bytes that TensorRT may use to build and that a provider may
    allocate; ``device`` is the number of the GPU; ``bundled``: CUDA's libraries lie in wheels beside onnxruntime.
    ``sm`` is what the artifact was built for, 0 where nobody said it; ``power`` is for ``run doctor``.
    """

    providers: tuple[str, ...] = (CPU,)
    strict: bool = False
    precision: Precision = "fp32"
    workspace: int | None = None
    memory: int | None = None
    device: int = 0
    bundled: bool = False
    sm: int = 0
    power: int | None = None


class Course(Struct, frozen=True):
    """What will be tried: ``wanted`` first, ``order`` is what onnxruntime has of the providers; ``why`` says what is missing."""

    wanted: str
    order: tuple[str, ...]
    why: str = ""


def of(service: Service) -> Execution:
    """Read it; ApiError 503 for one that this runtime does not understand."""
    try:
        found = msgspec.convert(service.config.get("execution", {}), Execution)
    except msgspec.ValidationError as error:
        raise unavailable(service.name, f"config.execution: {error}; build the artifact again") from error
    unknown = [name for name in found.providers if name not in NAMES]
    if unknown or not found.providers:
        raise unavailable(
            service.name, f"config.execution.providers: {', '.join(unknown) or 'nothing'} is none of {', '.join(NAMES)}"
        )
    return found


def course(execution: Execution, runs_on: Sequence[str] | None, available: Sequence[str]) -> Course:
    """What to try, and in which order.

    Args:
        runs_on: providers that have every operator of the graph, as the build found; None where it did not look.
        available: onnxruntime's names of the providers that it was built with.
    """
    able = [name for name in execution.providers if runs_on is None or name in runs_on] or [CPU]
    order = tuple(name for name in able if NAMES[name] in available)
    wanted = able[0]
    why = "" if wanted in order else f"this onnxruntime has no {NAMES[wanted]} (it has {', '.join(available)})"
    return Course(wanted, order if CPU in order or execution.strict else (*order, CPU), why)
