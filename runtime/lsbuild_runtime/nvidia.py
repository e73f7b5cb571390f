"""What NVIDIA's libraries say of this machine: driver, GPU, CUDA, cuDNN, TensorRT; asked through ctypes, nothing is started.

It opens libraries by the names that onnxruntime is linked with, so what cannot be opened here cannot be opened there.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

LIBRARIES = {
    "libcuda": ("libcuda.so.1",),
    "libcudart": ("libcudart.so.13", "libcudart.so.12"),
    "libcublas": ("libcublas.so.13", "libcublas.so.12"),
    "libcudnn": ("libcudnn.so.9",),
    "libnvinfer": ("libnvinfer.so.11", "libnvinfer.so.10"),
}
"""What is looked for -> the names it may have, newest first."""
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")

Load = Callable[[str], ctypes.CDLL]


class Facts(Struct, frozen=True):
    """ "" for what is not known. ``sm`` is the compute capability of the first GPU ("87"); ``driver`` is the CUDA that the
    driver supports ("13.2"). ``missing`` are the libraries that cannot be opened, with the loader's words.
    """

    driver: str = ""
    sm: str = ""
    gpu: str = ""
    cuda: str = ""
    cudnn: str = ""
    tensorrt: str = ""
    l4t: str = ""
    missing: dict[str, str] = {}


def facts(load: Load = ctypes.CDLL, root: Path = Path("/")) -> Facts:
    """Ask every library that can be opened."""
    opened: dict[str, ctypes.CDLL] = {}
    missing: dict[str, str] = {}
    for name, files in LIBRARIES.items():
        found = _open(files, load)
        if isinstance(found, str):
            missing[name] = found
        else:
            opened[name] = found
    driver, sm, gpu = _gpu(opened["libcuda"]) if "libcuda" in opened else ("", "", "")
    return Facts(
        driver=driver,
        sm=sm,
        gpu=gpu,
        cuda=_number(opened.get("libcudart"), "cudaRuntimeGetVersion", _thousands),
        cudnn=_returned(opened.get("libcudnn"), "cudnnGetVersion", _cudnn),
        tensorrt=_returned(opened.get("libnvinfer"), "getInferLibVersion", _tensorrt),
        l4t=l4t(root),
        missing=missing,
    )


def l4t(root: Path = Path("/")) -> str:
    """The release of Jetson Linux, "39.2"; "" on any other machine."""
    try:
        text = (root / "etc/nv_tegra_release").read_text(errors="replace")
    except OSError:
        return ""
    match = _L4T.search(text)
    return f"{match[1]}.{match[2]}" if match else ""


def _open(files: Sequence[str], load: Load) -> ctypes.CDLL | str:
    why = ""
    for name in files:
        try:
            return load(name)
        except OSError as error:
            why = why or str(error)
    return why


def _gpu(cuda: ctypes.CDLL) -> tuple[str, str, str]:
    """Version of the driver's CUDA, capability and name of the first GPU. cuInit finds the GPUs; it makes no context."""
    driver = _number(cuda, "cuDriverGetVersion", _thousands)
    device = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return driver, "", ""
    found = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return driver, "", ""
        found.append(str(value.value))
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    return driver, "".join(found), name.value.decode(errors="replace")


def _number(library: ctypes.CDLL | None, function: str, text: Callable[[int], str]) -> str:
    """What a function writes to the int that it is given."""
    value = ctypes.c_int()
    ask = getattr(library, function, None) if library is not None else None
    return "" if ask is None or ask(ctypes.byref(value)) else text(value.value)


def _returned(library: ctypes.CDLL | None, function: str, text: Callable[[int], str]) -> str:
    """What a function without arguments returns."""
    ask = getattr(library, function, None) if library is not None else None
    if ask is None:
        return ""
    ask.restype = ctypes.c_size_t
    return text(int(ask()))


def _thousands(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _cudnn(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def _tensorrt(version: int) -> str:
    """TensorRT 10 counts 10,000 for its major number (101600), older ones 1,000 (8601)."""
    large = version >= 100000
    major = version // 10000 if large else version // 1000
    return f"{major}.{version // 100 % (100 if large else 10)}.{version % 100}"
