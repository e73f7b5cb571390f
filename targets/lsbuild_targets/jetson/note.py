"""The step of an artifact without a wheel for the GPU: it says so, every time, and leaves the facts of no wheel."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild.api import Json, Platform, Step, StepContext
from lsbuild.packing import gpu


def step(platform: Platform, title: str) -> Step:
    """It stands where ``gpu.step`` would."""
    return Step(
        name=f"gpu.{platform.tag}",
        run="lsbuild_targets.jetson.note:write",
        options={"title": title},
        code=(__name__,),
    )


def write(context: StepContext) -> Mapping[str, Json]:
    """Write ``out/gpu.json`` with nothing in it."""
    (context.out / gpu.FILE).write_text("{}")
    told = (
        f"models run on the CPU of the {context.options['title']}: name an onnxruntime for its GPU with targets.jetson.wheel "
        "(docs/jetson.md says where such wheels come from)"
    )
    return {"warnings": [told]}
