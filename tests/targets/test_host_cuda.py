"""The profile of the target host for servers with a GPU: its options, what it wants, and what verify says without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from platform import machine

import msgspec
import pytest
from pydantic import ValidationError

from lsbuild.api import Bundle, Check, File
from lsbuild_runtime.manifest import to_json
from lsbuild_targets.host import TARGET, Options

SERVER = b"""
import argparse, http.server, json, signal, sys

HEALTH = %r

def main(argv):
    parser = argparse.ArgumentParser()
    for name in ("--root", "--host", "--port"):
        parser.add_argument(name)
    options = parser.parse_args(argv)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(HEALTH).encode()
            self.send_response(503 if "error" in HEALTH else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer((options.host, int(options.port)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
"""


def options(**values: object) -> Options:
    return Options.model_validate(values)


def test_the_cpu_is_the_usual_profile() -> None:
    assert TARGET.accelerator(options()) is None
    (platform,) = TARGET.platforms(options())
    assert TARGET.steps(options(), platform, {}) == {}


def test_the_gpu_brings_another_onnxruntime_and_a_look_at_its_code() -> None:
    chosen = options(profile="cuda", sm=86, strict=True, gpu_memory="4GB", arch="x86_64")
    accelerator = TARGET.accelerator(chosen)
    assert accelerator is not None
    assert accelerator.providers == ("cuda", "cpu")
    assert accelerator.replaces == {"onnxruntime": ("onnxruntime-gpu>=1.31,<1.32", "numpy>=2.2")}
    assert accelerator.settings["strict"] is True
    assert (accelerator.settings["memory"], accelerator.settings["sm"]) == (4_000_000_000, 86)
    (platform,) = TARGET.platforms(chosen)
    assert platform.glibc == "2.28"
    step = TARGET.steps(chosen, platform, {})["gpu"]
    assert step.needs == {"site": f"wheels.{platform.tag}"}
    assert step.options["system"]["sm"] == 86
    assert step.options["system"]["embedded"] is False


def test_cudas_libraries_may_come_as_wheels() -> None:
    accelerator = TARGET.accelerator(options(profile="cuda", cuda="wheels"))
    assert accelerator is not None
    assert accelerator.replaces["onnxruntime"] == ("onnxruntime-gpu[cuda,cudnn]>=1.31,<1.32", "numpy>=2.2")
    assert accelerator.settings["bundled"] is True


def test_arm_servers_need_a_newer_glibc() -> None:
    (platform,) = TARGET.platforms(options(profile="cuda", arch="aarch64"))
    assert platform.glibc == "2.34"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sm": 86}, "sm: for profile: cuda only"),
        ({"strict": True, "cuda": "wheels"}, "cuda, strict: for profile: cuda only"),
        ({"profile": "rocm"}, "cuda"),
        ({"profile": "cuda", "sm": 8}, "greater than or equal to 50"),
        ({"profile": "cuda", "providers": ["cuda", "cuda"]}, "named twice"),
        ({"profile": "cuda", "providers": []}, "at least 1"),
    ],
)
def test_what_means_nothing_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        options(**values)


@pytest.fixture
def make_server(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Callable[..., Path]:
    """``make_server(health)``: an artifact of the profile whose server answers health with that."""

    def make(health: object) -> Path:
        bundle = make_bundle(main=SERVER % (health,))
        server = msgspec.structs.replace(bundle.manifest.server, prepare=("embeddings/e",))
        manifest = msgspec.structs.replace(bundle.manifest, server=server)
        files = [file for file in bundle.files if file.path != "manifest.json"]
        files.append(File("manifest.json", to_json(manifest)))
        made = replace(bundle, manifest=manifest, files=tuple(files))
        return TARGET.pack((made,), options(profile="cuda", arch=machine()), tmp_path / "out").path

    return make


def nothing(_base_url: str) -> Iterator[Check]:
    yield from ()


def test_a_fall_back_is_told_and_cuda_stays_unproved(make_server: Callable[..., Path]) -> None:
    placed = {"provider": "cpu", "wanted": "cuda", "why": "no libcuda"}
    every = list(TARGET.verify(make_server({"status": "OK", "models": {"embeddings/e": placed}}), nothing))
    assert all(check.ok for check in every), every
    found = {check.name: check.detail for check in every}
    assert found["embeddings/e runs"] == "should run on cuda and runs on cpu: no libcuda"
    assert every[-1].state == "unproved"
    assert "CUDA on a GPU" in every[-1].detail


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has a GPU")
def test_a_strict_refusal_is_what_strict_means_where_there_is_no_gpu(make_server: Callable[..., Path]) -> None:
    error = {"error": {"message": "cuda was asked for", "code": "not_ready"}}
    every = list(TARGET.verify(make_server(error), nothing))
    assert all(check.ok for check in every), every
    found = {check.name: check for check in every}
    assert found["strict"].detail == "it refuses to serve: cuda was asked for"
    assert found["boot"].state == "skipped"
