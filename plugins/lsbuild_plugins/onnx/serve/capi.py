"""onnxruntime through its C API: a session on the CPU, opened and run without its Python module and without numpy.

The two cost 130 CPU ms of a cold start and 14 MB of a zip, and a graph that reads token ids needs neither. The C API is a
table of functions that only grows at its end (``OrtApi`` in onnxruntime_c_api.h; functions of its version 1 to 5), so
places in it hold for every later release.
"""

from __future__ import annotations

import os
import sys
import weakref
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
    cast,
)
from functools import cache
from pathlib import Path
from typing import Any

from lsbuild_plugins.onnx.serve.tensor import FLOAT32, INT32, INT64, Tensor

_API_VERSION = 16
_ERRORS_ONLY = 3
_ELEMENTS = {FLOAT32: 1, INT32: 6, INT64: 7}
"""Typecode -> ONNXTensorElementDataType."""
_FUNCTIONS: Mapping[str, tuple[int, tuple[Any, ...]]] = {
    "CreateEnv": (3, (c_int, c_char_p, c_void_p)),
    "CreateSession": (7, (c_void_p, c_char_p, c_void_p, c_void_p)),
    "Run": (9, (*(c_void_p,) * 4, c_size_t, c_void_p, c_size_t, c_void_p)),
    "CreateSessionOptions": (10, (c_void_p,)),
    "SetSessionLogSeverityLevel": (22, (c_void_p, c_int)),
    "SetIntraOpNumThreads": (24, (c_void_p, c_int)),
    "SetInterOpNumThreads": (25, (c_void_p, c_int)),
    "SessionGetInputCount": (30, (c_void_p, c_void_p)),
    "SessionGetInputName": (36, (c_void_p, c_size_t, c_void_p, c_void_p)),
    "CreateTensorWithDataAsOrtValue": (49, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int, c_void_p)),
    "GetTensorMutableData": (51, (c_void_p, c_void_p)),
    "GetTensorElementType": (60, (c_void_p, c_void_p)),
    "GetDimensionsCount": (61, (c_void_p, c_void_p)),
    "GetDimensions": (62, (c_void_p, c_void_p, c_size_t)),
    "GetTensorTypeAndShape": (65, (c_void_p, c_void_p)),
    "CreateCpuMemoryInfo": (69, (c_int, c_int, c_void_p)),
    "AllocatorFree": (76, (c_void_p, c_void_p)),
    "GetAllocatorWithDefaultOptions": (78, (c_void_p,)),
    "AddSessionConfigEntry": (130, (c_void_p, c_char_p, c_char_p)),
}
"""Name -> place in the table and types of the arguments. What is given back is a status, NULL for success."""
_ERROR_MESSAGE = 2
_RELEASE = {"Status": 93, "Session": 95, "Value": 96, "TensorTypeAndShapeInfo": 99, "SessionOptions": 100}
"""What a name is released with; nothing is given back."""


class OrtError(Exception):
    """onnxruntime refused something; the text is its own."""


def library() -> Path | None:
    """The shared library in the first onnxruntime on ``sys.path``, found without importing that; None where it has none."""
    for folder in sys.path:
        with suppress(OSError):
            files = sorted(Path(folder, "onnxruntime", "capi").iterdir())
            return next((path for path in files if path.name.startswith("libonnxruntime.so")), None)
    return None


class Session:
    """A graph on the CPU. Runs of several threads may overlap."""

    def __init__(self, path: Path, graph: Path, threads: int) -> None:
        """Load ``graph``, and the weights beside it, with the library ``path``. Raises OrtError, OSError."""
        self._api = _api(path)
        self._handle = self._api.session(graph, threads)
        # Not at exit: another thread may be in a run then.
        weakref.finalize(self, self._api.release["Session"], self._handle).atexit = False
        self.inputs: tuple[str, ...] = self._api.inputs(self._handle)

    def run(self, output: str, feeds: Mapping[str, Tensor]) -> Tensor:
        """The output of that name, which must be float32. Raises OrtError."""
        count = len(feeds)
        names = (c_char_p * count)(*(name.encode() for name in feeds))
        values, found = (c_void_p * count)(), (c_void_p * 1)()
        try:
            for place, tensor in enumerate(feeds.values()):
                values[place] = self._api.value(tensor)
            wanted = (c_char_p * 1)(output.encode())
            self._api.call["Run"](self._handle, None, names, values, count, wanted, 1, found)
            return self._api.tensor(found[0])
        finally:
            for handle in (*values, *found):
                if handle:
                    self._api.release["Value"](handle)


class _Api:
    """The functions that are used here, and the one environment of the process."""

    def __init__(self, path: Path) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it is read as the library is loaded: see `ort`
        loaded = CDLL(str(path))
        loaded.OrtGetApiBase.restype = c_void_p
        base = cast(loaded.OrtGetApiBase(), POINTER(c_void_p))
        found = CFUNCTYPE(c_void_p, c_uint32)(base[0])(_API_VERSION)
        if not found:
            raise OrtError(f"{path.name} has no version {_API_VERSION} of the C API")
        table = cast(found, POINTER(c_void_p))
        self.release: dict[str, Callable[..., None]] = {
            name: CFUNCTYPE(None, c_void_p)(table[place]) for name, place in _RELEASE.items()
        }
        self._message = CFUNCTYPE(c_char_p, c_void_p)(table[_ERROR_MESSAGE])
        self.call = {
            name: self._checked(CFUNCTYPE(c_void_p, *kinds)(table[place]))
            for name, (place, kinds) in _FUNCTIONS.items()
        }
        self._environment = self._made("CreateEnv", _ERRORS_ONLY, b"lsbuild")
        self._memory = self._made("CreateCpuMemoryInfo", 0, 0)
        self._allocator = self._made("GetAllocatorWithDefaultOptions")

    def session(self, graph: Path, threads: int) -> int:
        """A new session; see `session.open_session` for its options."""
        options = self._made("CreateSessionOptions")
        try:
            self.call["SetSessionLogSeverityLevel"](options, _ERRORS_ONLY)
            self.call["SetIntraOpNumThreads"](options, threads)
            self.call["SetInterOpNumThreads"](options, 1)
            self.call["AddSessionConfigEntry"](options, b"session.intra_op.allow_spinning", b"0")
            return self._made("CreateSession", self._environment, os.fsencode(graph), options)
        finally:
            self.release["SessionOptions"](options)

    def inputs(self, session: int) -> tuple[str, ...]:
        """Names of what a session takes."""
        count = c_size_t()
        self.call["SessionGetInputCount"](session, byref(count))
        names = []
        for place in range(count.value):
            name = self._made("SessionGetInputName", session, place, self._allocator)
            names.append((cast(name, c_char_p).value or b"").decode())
            self.call["AllocatorFree"](self._allocator, name)
        return tuple(names)

    def value(self, tensor: Tensor) -> int:
        """An OrtValue over the memory of ``tensor``, which must live as long."""
        address, length = tensor.values.buffer_info()
        size = length * tensor.values.itemsize
        shape = (c_int64 * len(tensor.shape))(*tensor.shape)
        kind = _ELEMENTS[tensor.values.typecode]
        return self._made("CreateTensorWithDataAsOrtValue", self._memory, address, size, shape, len(tensor.shape), kind)

    def tensor(self, value: int | None) -> Tensor:
        """A copy of what a run gave."""
        shape, kind = self._shape(value)
        if kind != _ELEMENTS[FLOAT32]:
            raise OrtError(f"the output has elements of type {kind} of the C API, not float32")
        address = self._made("GetTensorMutableData", value)
        size = 1
        for length in shape:
            size *= length
        values = array(FLOAT32)
        if size:
            values.frombytes(memoryview((c_float * size).from_address(address)).cast("B"))
        return Tensor(values, shape)

    def _shape(self, value: int | None) -> tuple[tuple[int, ...], int]:
        info = self._made("GetTensorTypeAndShape", value)
        try:
            kind, count = c_int(), c_size_t()
            self.call["GetTensorElementType"](info, byref(kind))
            self.call["GetDimensionsCount"](info, byref(count))
            shape = (c_int64 * count.value)()
            self.call["GetDimensions"](info, shape, count)
            return tuple(shape), kind.value
        finally:
            self.release["TensorTypeAndShapeInfo"](info)

    def _made(self, name: str, *arguments: Any) -> int:
        """What a function writes through its last argument: a pointer."""
        made = c_void_p()
        self.call[name](*arguments, byref(made))
        return made.value or 0

    def _checked(self, function: Callable[..., int | None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            status = function(*arguments)
            if status:
                text = self._message(status).decode("utf-8", "replace")
                self.release["Status"](status)
                raise OrtError(text)

        return call


@cache
def _api(path: Path) -> _Api:
    return _Api(path)
