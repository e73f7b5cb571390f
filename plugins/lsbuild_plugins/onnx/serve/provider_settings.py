"""What onnxruntime's execution providers are told, in its own words; pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from lsbuild_plugins.onnx.serve.execution import Execution

ROWS = 32
"""Texts of one run: TensorRT's engines are built for shapes up to so many."""
_USUAL = 128
"""Tokens of a text that the engines are tuned for."""


class Texts(Struct, frozen=True):
    """The shapes of a graph that reads texts: every one of ``inputs`` is i[batch, length], with up to ``tokens`` of length."""

    inputs: tuple[str, ...]
    tokens: int


def cuda(execution: Execution) -> dict[str, str]:
    """Options of the CUDA provider."""
    # Memory of a Jetson is the system's own: the arena takes what is needed, not the next power of two.
    found = {"device_id": str(execution.device), "arena_extend_strategy": "kSameAsRequested"}
    return found | ({"gpu_mem_limit": str(execution.memory)} if execution.memory else {})


def tensorrt(execution: Execution, texts: Texts | None, engines: Path | None) -> dict[str, str]:
    """Options of the TensorRT provider; its engines and timings lie in ``engines``, or nowhere."""
    found = {"device_id": str(execution.device)}
    if execution.workspace:
        found["trt_max_workspace_size"] = str(execution.workspace)
    if execution.precision in ("fp16", "int8"):
        found["trt_fp16_enable"] = "True"
    if execution.precision == "int8":
        found["trt_int8_enable"] = "True"
    return {**found, **(_profile(texts) if texts else {}), **(_kept(engines) if engines else {})}


def _kept(engines: Path) -> Mapping[str, str]:
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engines),
        "trt_engine_cache_prefix": "model",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(engines),
    }


def _profile(texts: Texts) -> Mapping[str, str]:
    """Shapes that engines are built for when the session is opened; without them they would be with the first request."""
    shapes = {"min": (1, 1), "opt": (1, min(_USUAL, texts.tokens)), "max": (ROWS, texts.tokens)}
    return {
        f"trt_profile_{name}_shapes": ",".join(f"{each}:{rows}x{tokens}" for each in texts.inputs)
        for name, (rows, tokens) in shapes.items()
    }
