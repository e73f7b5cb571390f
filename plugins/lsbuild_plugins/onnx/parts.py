"""What the declarations of models and of shields share: names of modules, tools and wheels, and formats; nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild.api import CPU_ONLY, Json

COMPILE = "lsbuild_plugins.onnx.compile"
SERVE = "lsbuild_plugins.onnx.serve"
READ = tuple(
    f"{SERVE}.{name}"
    for name in ("calls", "format", "forms", "labels", "pairs", "template", "text", "tools", "windows")
)
"""What the compile half uses of the serve half: the step's key changes with it."""
TOOLS = ("numpy", "onnx", "onnxruntime", "tokenizers", "minijinja", "jinja2")
WHEELS = ("onnxruntime>=1.31,<1.32", "tokenizers>=0.22")
"""What every local model is served with: of onnxruntime the shared library, or its Python module where numpy is beside it."""
DECODER_WHEELS = (*WHEELS, "numpy>=2.2", "minijinja>=3.0.5", "llguidance>=1.6.1,<2")
"""What a language model is served with."""
_DEFAULTS = {"llm": "int4"}


def default_format(kind: str, providers: tuple[str, ...]) -> str:
    """``quantize`` where the spec says nothing. TensorRT knows no blocks of 8 bits: what it may run stays in float."""
    return _DEFAULTS.get(kind, "none" if providers[0] == "tensorrt" else "int8")


def chosen(wanted: tuple[str, ...] | None, providers: tuple[str, ...]) -> tuple[str, ...]:
    """What of a target's ``providers`` a model runs on, in the order that it wants them."""
    if wanted is None:
        return providers
    return tuple(name for name in wanted if name in providers) or CPU_ONLY


def fitted_to(providers: tuple[str, ...]) -> Mapping[str, Json]:
    """The option of a compile step that says what its graph is to run on; none for the CPU alone."""
    return {} if providers == CPU_ONLY else {"providers": list(providers)}
