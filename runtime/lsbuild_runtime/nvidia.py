"""What NVIDIA's libraries say of this machine: driver, GPU, CUDA, cuDNN, TensorRT; asked through ctypes, nothing is started.

It opens libraries by the names that onnxruntime is linked with, so what cannot be opened here cannot be opened there. It
needs the standard library alone, of any Python since 3.9: ``run doctor`` has to work where nothing else does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LIBRARIES = {
    "libcuda": ("libcuda.so.1",),
    "libcudart": ("libcudart.so.13", "libcudart.so.12"),
    "libcublas": ("libcublas.so.13", "libcublas.so.12"),
    "libcudnn": ("libcudnn.so.9",),
    "libnvinfer": ("libnvinfer.so.10", "libnvinfer.so.11"),
}
"""What is looked for -> the names it may have, that of today's wheels first."""
NEEDED = {
    "tensorrt": ("libcuda", "libcudart", "libcublas", "libcudnn", "libnvinfer"),
    "cuda": ("libcuda", "libcudart", "libcublas", "libcudnn"),
}
"""Provider of onnxruntime -> what it needs of them."""
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")

Load = Callable[[str], Any]


class Facts(NamedTuple):
    """What was found, "" for what is not known.

    ``sm`` is the compute capability of the first GPU ("87"), ``driver`` the CUDA that the driver supports ("13.2"),
    ``missing`` maps libraries that cannot be opened to the loader's words.
    """

    driver: str
    sm: str
    gpu: str
    cuda: str
    cudnn: str
    tensorrt: str
    l4t: str
    missing: Mapping[str, str]


def facts(load: Load = ctypes.CDLL, root: Path = Path("/")) -> Facts:
    """Ask every library that can be opened."""
    opened: dict[str, Any] = {}
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
        cuda=_number(opened.get("libcudart"), "cudaRuntimeGetVersion"),
        cudnn=_cudnn(_returned(opened.get("libcudnn"), "cudnnGetVersion")),
        tensorrt=_tensorrt(_returned(opened.get("libnvinfer"), "getInferLibVersion")),
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


def _open(files: Sequence[str], load: Load) -> Any | str:
    """The library, or why the first of these names cannot be opened."""
    why = ""
    for name in files:
        try:
            return load(name)
        except OSError as error:
            why = why or str(error)
    return why


def _gpu(cuda: Any) -> tuple[str, str, str]:
    """Version of the driver's CUDA, capability and name of the first GPU. cuInit finds the GPUs; it makes no context."""
    driver = _number(cuda, "cuDriverGetVersion")
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


def _number(library: Any, function: str) -> str:
    """A version of CUDA, which a function writes to the int that it is given: 13020 is 13.2."""
    value = ctypes.c_int()
    ask = getattr(library, function, None)
    if ask is None or ask(ctypes.byref(value)):
        return ""
    return f"{value.value // 1000}.{value.value % 1000 // 10}"


def _returned(library: Any, function: str) -> int:
    """What a function without arguments returns; 0 where there is none."""
    ask = getattr(library, function, None)
    if ask is None:
        return 0
    ask.restype = ctypes.c_size_t
    return int(ask())


def _cudnn(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}" if version else ""


def _tensorrt(version: int) -> str:
    """TensorRT 10 counts 10,000 for its major number (101600), older ones 1,000 (8601)."""
    if not version:
        return ""
    step = 10000 if version >= 100000 else 1000
    return f"{version // step}.{version % step // 100}.{version % 100}"
