"""What of a wheel need not ship: a table of globs for each distribution whose import was tested without them.

A distribution that is not in the table ships whole. ``numpy.libs`` is never touched: stripping breaks its alignment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch

NEVER = (
    "coloredlogs",
    "flatbuffers",
    "h11",
    "hf-xet",
    "huggingface-hub",
    "humanfriendly",
    "packaging",
    "protobuf",
    "sympy",
)
"""Distributions that others require but never import at run time (onnxruntime, tokenizers; uvicorn uses httptools)."""

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
    "apsw": ("apsw/tests/*", "apsw/sqlite_extra_binaries/*", "apsw/speedtest.py", "apsw/shell.py", "apsw/trace.py"),
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
        "onnxruntime/capi/libonnxruntime.so*",
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


def keeps(distribution: str, path: str) -> bool:
    """Whether the file ``path`` (posix, below site-packages) of a distribution ships."""
    rules = RULES.get(normalised(distribution))
    return rules is None or not any(fnmatch(path, glob) for glob in (*ALWAYS, *rules))


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
