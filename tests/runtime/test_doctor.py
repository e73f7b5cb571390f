"""`run doctor`: what a machine has of what an artifact wants; NVIDIA's libraries are small stand-ins that ctypes would open."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lsbuild_runtime
from lsbuild_runtime import doctor, nvidia

RUNTIME = Path(lsbuild_runtime.__file__).parents[1]
EXECUTION = {"providers": ["tensorrt", "cuda", "cpu"], "strict": False, "sm": 87}
HERE = f"linux-{platform.machine()}-cp{sys.version_info[0]}{sys.version_info[1]}"


class Library:
    """Functions of a C library by name; those that are given a pointer write a number there."""

    def __init__(self, **functions: Callable[..., int]) -> None:
        self.__dict__.update(functions)


def writes(value: int) -> Callable[..., int]:
    def function(pointer: Any, *_: Any) -> int:
        pointer._obj.value = value
        return 0

    return function


def returns(value: int) -> Callable[..., int]:
    def function() -> int:
        return value

    return function


def capability(pointer: Any, attribute: int, _device: Any) -> int:
    pointer._obj.value = {75: 8, 76: 7}[attribute]
    return 0


def named(buffer: Any, _size: int, _device: Any) -> int:
    buffer.value = b"Orin"
    return 0


DRIVER = Library(
    cuDriverGetVersion=writes(13020),
    cuInit=lambda _flags: 0,
    cuDeviceGet=writes(0),
    cuDeviceGetAttribute=capability,
    cuDeviceGetName=named,
)
JETPACK = {
    "libcuda.so.1": DRIVER,
    "libcudart.so.13": Library(cudaRuntimeGetVersion=writes(13020)),
    "libcublas.so.13": Library(),
    "libcudnn.so.9": Library(cudnnGetVersion=returns(92000)),
    "libnvinfer.so.10": Library(getInferLibVersion=returns(101600)),
}


def load(libraries: dict[str, Any]) -> Callable[[str], Any]:
    def opened(name: str) -> Any:
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    return opened


def facts(libraries: dict[str, Any], root: Path = Path("/nonexistent")) -> nvidia.Facts:
    return nvidia.facts(load(libraries), root)


def bundle(tmp_path: Path, execution: dict[str, Any] | None = None, target: str = HERE) -> Path:
    config = {"execution": execution} if execution else {}
    services = [{"api": "embeddings", "name": "e", "config": config}]
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "n", "platform": target, "services": services}))
    return tmp_path


def test_every_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n")
    found = facts(JETPACK, tmp_path)
    assert (found.driver, found.cuda, found.cudnn, found.tensorrt) == ("13.2", "13.2", "9.20.0", "10.16.0")
    assert (found.sm, found.gpu, found.l4t) == ("87", "Orin", "39.2.0")
    assert not found.missing


def test_what_cannot_be_opened_is_named_with_the_loaders_words() -> None:
    found = facts({})
    assert set(found.missing) == {"libcuda", "libcudart", "libcublas", "libcudnn", "libnvinfer"}
    assert found.missing["libcuda"] == "libcuda.so.1: cannot open shared object file"
    assert (found.sm, found.tensorrt) == ("", "")


def test_a_driver_without_a_gpu_has_a_version_and_no_capability() -> None:
    found = facts({"libcuda.so.1": Library(cuDriverGetVersion=writes(12060), cuInit=lambda _flags: 100)})
    assert (found.driver, found.sm) == ("12.6", "")


def test_a_device_that_has_everything_is_well(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "engines" / "e" / "key").mkdir(parents=True)
    (state / "engines" / "e" / "key" / "model_0.engine").touch()
    found = doctor.examine(bundle(tmp_path, EXECUTION), state, facts(JETPACK))
    assert found["faults"] == []
    assert found["engines"] == ["e"]
    assert "sm_87" in doctor.to_text(found)


def test_what_is_missing_is_said_with_how_to_get_it(tmp_path: Path) -> None:
    libraries = {name: library for name, library in JETPACK.items() if not name.startswith("libnvinfer")}
    found = doctor.examine(bundle(tmp_path, EXECUTION), None, facts(libraries))
    (fault,) = found["faults"]
    assert fault.startswith("libnvinfer, for tensorrt")
    assert "apt-get install tensorrt" in fault
    assert "strict is off" in found["advice"][0]
    assert any("builds engines" in line for line in found["advice"])


def test_another_gpu_and_another_machine_are_faults(tmp_path: Path) -> None:
    root = bundle(tmp_path, {**EXECUTION, "sm": 110}, "linux-riscv64-cp39")
    found = doctor.examine(root, None, facts(JETPACK))
    assert any("the artifact is for linux-riscv64-cp39" in fault for fault in found["faults"])
    assert any("this GPU is sm_87, the artifact was built for sm_110" in fault for fault in found["faults"])


def test_another_power_mode_than_the_specs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_said", lambda _words: "NV Power Mode: 15W\n1\n")
    found = doctor.examine(bundle(tmp_path, {**EXECUTION, "power": 2}), None, facts(JETPACK))
    assert "the power mode is 15W (mode 1), the spec wants mode 2: sudo nvpmodel -m 2" in found["advice"]
    found = doctor.examine(bundle(tmp_path, {**EXECUTION, "power": 1}), None, facts(JETPACK))
    assert not any("nvpmodel" in line for line in found["advice"])


def test_libraries_that_are_packed_are_not_missing(tmp_path: Path) -> None:
    execution = {"providers": ["cuda", "cpu"], "bundled": True}
    found = doctor.examine(bundle(tmp_path, execution), None, facts({"libcuda.so.1": DRIVER}))
    assert found["faults"] == []


def test_an_artifact_for_the_cpu_has_advice_alone(tmp_path: Path) -> None:
    found = doctor.examine(bundle(tmp_path), None, facts({}))
    assert found["faults"] == []
    assert "was built for the CPU" in found["advice"][0]


def test_a_folder_without_a_manifest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    assert doctor.examine(tmp_path, None, facts({}))["artifact"]["name"] == ""


def test_it_runs_on_this_machine_with_the_standard_library_alone(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lsbuild_runtime import doctor; "
    code += "sys.exit(doctor.main(sys.argv[1:]))"
    words = ["--root", bundle(tmp_path, EXECUTION), "doctor", "--json"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, RUNTIME, *words], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["faults"] else 0)
    assert found["system"]["memory"] > 0


def test_a_wheel_that_does_not_load_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    package = bundle(tmp_path) / "site" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('wrong ELF class')\n")
    found = doctor.examine(tmp_path, None, facts({}))
    assert found["faults"] == ["onnxruntime cannot be loaded: ImportError: wrong ELF class"]


def test_an_engine_that_is_a_library_alone_is_the_cpus(tmp_path: Path) -> None:
    (bundle(tmp_path) / "site" / "onnxruntime" / "capi").mkdir(parents=True)
    (tmp_path / "site" / "onnxruntime-1.31.1.dist-info").mkdir()
    found = doctor.examine(tmp_path, None, facts({}))
    assert found["onnxruntime"] == {"version": "1.31.1", "providers": ["CPUExecutionProvider"]}
    assert found["faults"] == []


def test_the_server_passes_the_word_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lsbuild_runtime.serve.main import main

    assert main(["--root", str(bundle(tmp_path)), "--host", "0.0.0.0", "--port", "1", "doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"]["name"] == "n"
