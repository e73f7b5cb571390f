"""Holds an onnxruntime for NVIDIA GPUs against the system that it will run on: code for the GPU, CUDA, cuDNN, TensorRT.

It reads the libraries of an unpacked wheel and runs nothing; what only a GPU can show stays unproved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsbuild.api import Json, Platform, Step, StepContext
from lsbuild.errors import TargetError
from lsbuild.packing import elf, fatbin

FILE = "gpu.json"
"""What the step writes, for the target's record."""
PROVIDERS = {"tensorrt": "libonnxruntime_providers_tensorrt.so", "cuda": "libonnxruntime_providers_cuda.so"}
"""Execution provider -> its library in ``onnxruntime/capi``."""
NVIDIA = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn\w*|cufft|curand|cusolver|cusparse|nvinfer\w*|nvonnxparser|nvrtc|nvjitlink|nccl)"
    r"[-.\w]*\.so[.\d]*"
)
"""Names of NVIDIA's own libraries, which an artifact takes from the system it runs on."""
_MAJOR = {"cudart": "cuda", "cublas": "cuda", "cublasLt": "cuda", "cudnn": "cudnn", "nvinfer": "tensorrt"}
_TITLES = {"cuda": "CUDA", "cudnn": "cuDNN", "tensorrt": "TensorRT"}


@dataclass(frozen=True, slots=True)
class System:
    """What an artifact will find. ``sm`` is the GPU's compute capability (87), 0 where the spec does not say it.

    ``majors`` are the major versions of ``cuda``, ``cudnn`` and ``tensorrt``; what is missing is not held against anything.
    ``embedded`` modules run machine code for exactly their own capability. ``where`` is the setting of the spec that chose
    the wheel, ``source`` says in words where one that fits comes from.
    """

    title: str
    sm: int
    embedded: bool
    majors: Mapping[str, int]
    where: str
    source: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """What an onnxruntime wheel has: ``providers`` beside the CPU, ``code`` for which GPUs, ``majors`` that it is linked with."""

    providers: tuple[str, ...]
    code: tuple[str, ...]
    majors: Mapping[str, int]
    how: str
    """``machine code`` or ``ptx``; "" where no GPU was named."""


def step(platform: Platform, site: str, system: System, wanted: Sequence[str]) -> Step:
    """The step that holds the wheel, unpacked by the step ``site``, against ``system``; ``wanted`` providers must be in it."""
    return Step(
        name=f"gpu.{platform.tag}",
        run="lsbuild.packing.gpu:inspect",
        options={"system": {**asdict(system), "majors": dict(system.majors)}, "wanted": list(wanted)},
        needs={"site": site},
        code=("lsbuild.packing.gpu", "lsbuild.packing.fatbin", "lsbuild.packing.elf"),
    )


def inspect(context: StepContext) -> Mapping[str, Json]:
    """Write ``out/gpu.json``; facts ``providers``, ``code``, ``majors``. TargetError for a wheel that cannot work."""
    system = System(**context.options["system"])
    context.progress(0, 1, "reading the code for GPUs")
    wheel, warnings = judge(context.inputs["site"], system, context.options["wanted"])
    (context.out / FILE).write_text(json.dumps(asdict(wheel), indent=1, sort_keys=True))
    context.progress(1, 1, "")
    return {**asdict(wheel), "warnings": list(warnings)}


def read(folder: Path) -> Wheel:
    """The facts, as ``inspect`` wrote them."""
    value: dict[str, Any] = json.loads((folder / FILE).read_text())
    return Wheel(tuple(value["providers"]), tuple(value["code"]), value["majors"], value["how"])


def judge(site: Path, system: System, wanted: Iterable[str]) -> tuple[Wheel, tuple[str, ...]]:
    """The facts of the onnxruntime below ``site``, and warnings. TargetError says what does not fit and what to do."""
    capi = site / "onnxruntime" / "capi"
    found = {name: capi / library for name, library in PROVIDERS.items() if (capi / library).is_file()}
    if "cuda" not in found:
        raise _without("cuda", system, "Take another wheel.")
    majors = _majors(found.values())
    _require_majors(majors, system)
    try:
        codes = fatbin.read(found["cuda"])
    except ValueError as error:
        raise TargetError(str(error), where=found["cuda"].name, hint="The wheel is damaged: fetch it again.") from error
    how = _require_code(codes, system) if system.sm else ""
    for name in wanted:
        if name in PROVIDERS and name not in found:
            raise _without(name, system, f"Leave {name} out of providers, or take another wheel.")
    wheel = Wheel(tuple(found), tuple(map(str, codes)), majors, how)
    return wheel, tuple(_warnings(wheel, system))


def require_none_packed(paths: Iterable[str], where: str) -> None:
    """TargetError when one of NVIDIA's own libraries is among ``paths``: those of the system would be shadowed by it."""
    packed = sorted(path for path in paths if NVIDIA.fullmatch(path.rpartition("/")[2]))
    if packed:
        raise TargetError(
            f"{', '.join(packed[:4])}{' ...' if len(packed) > 4 else ''}: libraries of NVIDIA are not packed, "
            "they have to be those of the device's own system",
            where=where,
            hint="Remove the package that brings them from the requirements of your tools, or pin a wheel without them.",
        )


def _without(name: str, system: System, way_out: str) -> TargetError:
    what = f"this onnxruntime has no {PROVIDERS[name]}: it was built without {_TITLES[name]}"
    return TargetError(what, where=system.where, hint=f"{way_out} {system.source}")


def _require_code(codes: Sequence[fatbin.Code], system: System) -> str:
    how = fatbin.runs(codes, system.sm, embedded=system.embedded)
    if not how:
        raise TargetError(
            f"this onnxruntime has code for {', '.join(map(str, codes)) or 'no GPU at all'}, and {system.title} needs "
            f"sm_{system.sm}; CUDA would say 'no kernel image is available for execution on the device'",
            where=system.where,
            hint=system.source,
        )
    return how


def _require_majors(majors: Mapping[str, int], system: System) -> None:
    for name, major in majors.items():
        has = system.majors.get(name, major)
        if has != major:
            raise TargetError(
                f"this onnxruntime is linked with {_TITLES[name]} {major}, and {system.title} has {_TITLES[name]} {has}",
                where=system.where,
                hint=f"Take a wheel that was built for {_TITLES[name]} {has}. {system.source}",
            )


def _majors(libraries: Iterable[Path]) -> dict[str, int]:
    found = {}
    for path in libraries:
        try:
            linked = elf.needed(path)
        except ValueError as error:
            raise TargetError(str(error), where=path.name, hint="The wheel is damaged: fetch it again.") from error
        for library in linked:
            match = re.fullmatch(r"lib(\w+)\.so\.(\d+)", library)
            if match and match[1] in _MAJOR:
                found[_MAJOR[match[1]]] = int(match[2])
    return found


def _warnings(wheel: Wheel, system: System) -> Iterator[str]:
    if wheel.how == "ptx":
        yield (
            f"onnxruntime has no machine code for sm_{system.sm}, only PTX ({', '.join(wheel.code)}): the driver compiles "
            "it when it is first loaded, which takes minutes once, and again after an update of the driver"
        )
    if not system.sm:
        yield (
            f"onnxruntime has code for {', '.join(wheel.code)}; set sm to the compute capability of your GPU (86 for 8.6) "
            "to have that checked"
        )
