"""What targets.jetson of a spec may say, and what it wants of the build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpu_wheels import CP312, CP313
from lsbuild.api import Platform, Source, SourceFile, TargetError
from lsbuild_targets.jetson.options import Options
from lsbuild_targets.jetson.target import TARGET

JETPACK, CONTAINER = Platform("aarch64", "3.12", "2.39"), Platform("aarch64", "3.13", "2.41")


def options(**values: object) -> Options:
    return Options.model_validate(values)


def source(path: str) -> Source:
    return Source(path, (SourceFile(path.rpartition("/")[2], Path(path), "0" * 64, 1),))


def test_without_a_wheel_models_run_on_the_cpu_and_everything_is_written() -> None:
    chosen = options()
    assert TARGET.accelerator(chosen) is None
    assert TARGET.platforms(chosen) == (JETPACK, CONTAINER)
    assert chosen.packages == ("deb", "tar", "container")
    step = TARGET.steps(chosen, JETPACK, {})["gpu"]
    assert step.run == "lsbuild_targets.jetson.note:write"


def test_a_wheel_takes_the_place_of_onnxruntime() -> None:
    chosen = options(wheel=CP312, module="thor", precision="int8", strict=True)
    accelerator = TARGET.accelerator(chosen)
    assert accelerator is not None
    assert accelerator.providers == ("tensorrt", "cuda", "cpu")
    assert accelerator.replaces == {"onnxruntime": ("numpy>=2.2",)}  # which nothing else may want
    assert accelerator.settings["sm"] == 110
    assert accelerator.settings["strict"] is True


def test_what_the_wheels_do_not_fit_is_left_out() -> None:
    assert options(wheel=CP312).packages == ("deb", "tar")
    assert options(wheel=[CP312, CP313]).packages == ("deb", "tar", "container")
    assert TARGET.platforms(options(wheel=CP313)) == (CONTAINER,)


def test_the_wheel_is_unpacked_and_held_against_the_module() -> None:
    chosen = options(wheel=CP312, providers=["cuda", "cpu"])
    steps = TARGET.steps(chosen, JETPACK, {"onnxruntime": source(CP312)})
    assert steps["onnxruntime"].ship == "site"
    assert steps["gpu"].needs == {"site": steps["onnxruntime"].name}
    assert steps["gpu"].options["wanted"] == ["cuda"]
    assert steps["gpu"].options["system"]["sm"] == 87
    assert TARGET.sources(chosen, JETPACK) == {"onnxruntime": CP312}


def test_a_wheel_for_another_machine_is_refused() -> None:
    path = CP312.replace("aarch64", "x86_64")
    with pytest.raises(TargetError, match="is not for aarch64"):
        TARGET.steps(options(wheel=path), JETPACK, {"onnxruntime": source(path)})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"jetpack": "6.2"}, "flash JetPack 7.2"),
        ({"module": "nano"}, "orin-nano"),
        ({"strict": True}, "strict: only with an onnxruntime for the GPU"),
        ({"providers": ["cuda"], "power": 0}, "power, providers: only with an onnxruntime for the GPU"),
        ({"wheel": "onnxruntime-gpu==1.31"}, "has to end with .whl"),
        ({"wheel": "https://x.example/a-cp312-cp312-linux_aarch64.whl"}, "has no hash"),
        ({"wheel": CP312, "package": ["container"]}, "no wheel is for cp313"),
        ({"wheel": "a-1-cp310-cp310-linux_aarch64.whl"}, "no wheel is for Python 3.12"),
        ({"wheel": [CP312, CP312]}, "named twice"),
        ({"wheel": CP312, "providers": ["rocm"]}, "tensorrt"),
        ({"threads": 0}, "greater than or equal to 1"),
        ({"wheel": CP312, "power": 99}, "less than or equal to 15"),
        ({"hostname": "x"}, "Extra inputs"),
    ],
)
def test_what_means_nothing_is_refused_with_what_to_do(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        options(**values)


def test_another_targets_options_are_refused() -> None:
    from lsbuild_targets.host import Options as Others

    with pytest.raises(TargetError, match="not its own Options"):
        TARGET.platforms(Others())


def test_bytecode_and_base_are_for_the_container_alone() -> None:
    chosen = options()
    assert set(TARGET.sources(chosen, CONTAINER)) == {"debs", "tools"}
    assert "rootfs" in TARGET.steps(chosen, CONTAINER, {name: source(name) for name in ("debs", "tools")})
    assert set(TARGET.steps(chosen, JETPACK, {})) == {"gpu"}
    assert replace(JETPACK, python="3.13") not in TARGET.platforms(options(package="tar"))
