"""A bundle for a Jetson, small enough to pack in milliseconds."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_wheels import TENSORRT_10, capi, cuda, library
from lsbuild.api import Bundle, File
from lsbuild_targets.jetson.options import Options
from lsbuild_targets.jetson.target import TARGET

MakeJetson = Callable[..., Path]
WHEEL = {"providers": ["tensorrt", "cuda"], "code": ["sm_87"], "majors": {"cuda": 13}, "how": "machine code"}


@pytest.fixture
def make_jetson(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> MakeJetson:
    """``make_jetson(out, extra=, **options)``: an artifact at ``out``."""

    def make(out: Path, extra: tuple[File, ...] = (), **options: object) -> Path:
        chosen = Options.model_validate(options)
        found, base = tmp_path / "gpu", tmp_path / "rootfs"
        for folder in (found, base):
            folder.mkdir(exist_ok=True)
        (found / "gpu.json").write_text(json.dumps(WHEEL if chosen.wheel else {}))
        with tarfile.open(base / "rootfs.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("etc/debian_version"), io.BytesIO())
        providers = {"cuda": cuda(), "tensorrt": library(needed=TENSORRT_10)} if chosen.wheel else {}
        engine = tuple(File(f"site/{path}", data, part="wheels") for path, data in capi(providers).items())
        bundles = tuple(
            replace(make_bundle(platform=platform, extra=(*extra, *engine)), extras={"gpu": found, "rootfs": base})
            for platform in TARGET.platforms(chosen)
        )
        return TARGET.pack(bundles, chosen, out).path

    return make
