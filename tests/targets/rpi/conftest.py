"""A bundle for a Raspberry Pi, small enough to pack in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lsbuild.api import Bundle, File, Platform
from lsbuild_targets.rpi.options import Options
from lsbuild_targets.rpi.target import TARGET

MakePi = Callable[..., Path]


@pytest.fixture
def make_pi(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> MakePi:
    """``make_pi(out, extra=, **options)``: an artifact at ``out``."""

    def make(out: Path, extra: tuple[File, ...] = (), **options: object) -> Path:
        chosen = Options.model_validate(options)
        (platform,) = TARGET.platforms(chosen)
        assert isinstance(platform, Platform)
        base = tmp_path / "base"
        base.mkdir(exist_ok=True)
        listed = {"uri": "debian:trixie/arm64?libc6", "files": {"pool/main/libc6_1_arm64.deb": "0" * 64}}
        (base / "base.json").write_text(json.dumps(listed))
        bundle = replace(make_bundle(platform=platform, extra=extra), extras={"base": base})
        return TARGET.pack((bundle,), chosen, out).path

    return make
