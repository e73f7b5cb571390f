"""What of a wheel need not ship: a table of globs for each distribution whose import was tested without them.

A distribution that is not in the table ships whole. ``numpy.libs`` is never touched: stripping breaks its alignment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatch

NEVER = (
    "coloredlogs",
    "flatbuffers",
    "h11",
    "hf-xet",
    "huggingface-hub",
    "humanfriendly",
    "numpy",
    "packaging",
    "protobuf",
    "sympy",
)
"""Distributions that others require but never import at run time (onnxruntime, tokenizers; uvicorn uses httptools).

numpy is there for those alone that require it themselves: onnxruntime's Python module needs it, its shared library does not.
"""

ALWAYS = ("*.pyi", "*.pyx", "*.pxd", "*.dist-info/RECORD*", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED")
"""Dropped from every distribution of the table."""

_POWERTOOLS_UTILITIES = (
    *(
        "auth_alpha",
        "batch",
        "circuit_breaker",
        "data_classes",
        "data_masking",
        "feature_flags",
        "idempotency",
        "kafka",
        "metadata",
    ),
    *("parameters", "parser", "streaming", "typing", "validation"),
)

RULES: Mapping[str, tuple[str, ...]] = {
    "aws-lambda-powertools": (
        "aws_lambda_powertools/event_handler/*",
        "aws_lambda_powertools/metrics/provider/datadog/*",
        # Logger and Metrics need of the others only what unwraps envelopes.
        *(f"aws_lambda_powertools/utilities/{name}/*" for name in _POWERTOOLS_UTILITIES),
    ),
    # Of its package only the native module is served with.
    "apsw": (
        "apsw/tests/*",
        "apsw/sqlite_extra*",
        "apsw/_unicode.*",
        "apsw/fts_test_strings",
        *(
            f"apsw/{name}.py"
            for name in (
                *("__main__", "aio", "bestpractice", "ext", "fts5", "fts5aux", "fts5query"),
                *("shell", "speedtest", "trace", "unicode"),
            )
        ),
    ),
    "click": ("click/testing.py",),
    "httptools": ("*.c", "*.h"),
    "jsonschema": ("jsonschema/benchmarks/*", "jsonschema/cli.py", "jsonschema/__main__.py", "jsonschema/tests/*"),
    "jsonschema-specifications": ("jsonschema_specifications/tests/*",),
    "llguidance": (
        "llguidance/cli.py",
        "llguidance/hf.py",
        "llguidance/llamacpp.py",
        "llguidance/mlx.py",
        "llguidance/tiktoken.py",
        "llguidance/torch.py",
    ),
    "msgspec": (),
    "minijinja": (),
    "numpy": (
        "*/tests/*",
        "*.a",
        "*.h",
        "numpy/_core/_*_tests.*.so",
        "numpy/_core/_simd.*.so",
        "numpy/_core/include/*",
        "numpy/_core/lib/*",
        "numpy/_pyinstaller/*",
        "numpy/conftest.py",
        "numpy/distutils/*",
        "numpy/doc/*",
        "numpy/f2py/*",
        "numpy/random/_examples/*",
        "numpy/random/lib/*",
        "numpy/testing/*",
    ),
    "onnxruntime": (
        "onnxruntime/backend/*",
        "onnxruntime/capi/convert_npz_to_onnx_adapter.py",
        "onnxruntime/datasets/*",
        "onnxruntime/quantization/*",
        "onnxruntime/tools/*",
        "onnxruntime/transformers/*",
    ),
    # Its second copy of the engine stays: nobody has seen a GPU do without it.
    "onnxruntime-gpu": (
        "onnxruntime/backend/*",
        "onnxruntime/capi/convert_npz_to_onnx_adapter.py",
        "onnxruntime/datasets/*",
        "onnxruntime/quantization/*",
        "onnxruntime/tools/*",
        "onnxruntime/transformers/*",
    ),
    "python-stdnum": (),
    "referencing": ("referencing/tests/*",),
    "sqlite-vec": (),
    "tokenizers": ("tokenizers/tools/*",),
    "urllib3": ("urllib3/contrib/emscripten/*",),
    "uvicorn": ("uvicorn/workers.py",),
}

BESIDE: Mapping[tuple[str, bool], tuple[str, ...]] = {
    ("onnxruntime", True): ("onnxruntime/capi/libonnxruntime.so*",),
    ("onnxruntime", False): (
        "*.py",
        "onnxruntime/capi/onnxruntime_pybind11_state.*",
        "onnxruntime/capi/libonnxruntime_providers_*",
    ),
}
"""(distribution, whether numpy is beside it) -> what more is left out. The wheel of onnxruntime has the whole engine twice:
in a Python module that needs numpy, and in a shared library that needs nothing."""


def keeps(distribution: str, path: str, beside: Collection[str]) -> bool:
    """Whether the file ``path`` (posix, below site-packages) of a distribution ships; ``beside`` are all that do."""
    name = normalised(distribution)
    rules = RULES.get(name)
    if rules is None:
        return True
    return not any(fnmatch(path, glob) for glob in (*ALWAYS, *rules, *BESIDE.get((name, "numpy" in beside), ())))


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
