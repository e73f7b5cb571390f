"""What the tests of the compile half share: steps run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, StepContext
from lsbuild.registry import attribute
from lsbuild.spec.model import Model
from lsbuild_plugins.onnx.plugin import PLUGIN
from onnx_compile_models import as_source

Build = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """``build(folder, type="llm", quantize="int8") -> (model folder, facts)``: what the planner and a worker do."""
    made = 0

    def run(root: Path, **spec: Any) -> tuple[Path, dict[str, Any]]:
        nonlocal made
        made += 1
        item = Item("models", "m", "inline::onnx", Model(source=str(root), **spec), tmp_path)
        assert not list(PLUGIN.check(item))
        step = PLUGIN.compile(item, Given({"weights": as_source(root)})).steps[0]
        out = tmp_path / f"built{made}"
        out.mkdir()
        facts = attribute(step.run)(StepContext(out, step.options, step.sources, {}, lambda *_: None))
        return out, facts

    return run
