"""onnxruntime's telemetry stays off, and nothing it would keep is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lsbuild_plugins.onnx.serve

MODULE = """
import sys
from lsbuild_plugins.onnx.serve.ort import ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""
LIBRARY = """
import sys
from pathlib import Path
from lsbuild_plugins.onnx.serve import capi
session = capi.Session(capi.library(), Path(sys.argv[1]), 1)
"""


@pytest.mark.parametrize("code", [MODULE, LIBRARY], ids=["module", "library"])
def test_no_database_and_no_device_id_are_written(encoder_folder: Path, tmp_path: Path, code: str) -> None:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path),
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    model = str(encoder_folder / "model.onnx")
    subprocess.run([sys.executable, "-B", "-c", code, model], check=True, env=environment, timeout=120)
    assert list(tmp_path.rglob("*")) == []


def test_one_module_imports_onnxruntime() -> None:
    (folder,) = lsbuild_plugins.onnx.serve.__path__
    found = [
        path.name
        for path in Path(folder).glob("*.py")
        if re.search(r"^\s*(import|from) onnxruntime", path.read_text(), re.M)
    ]
    assert found == ["ort.py"]
