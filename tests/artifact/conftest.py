"""Real artifacts for the tests of this folder, compiled once for all workers through one shared cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact_tools import QUICKSTART, ROOT, Lsbuild


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.artifact)


@pytest.fixture(scope="session")
def lsbuild() -> Lsbuild:
    """With a cache that outlives the test run."""
    return Lsbuild(Path(os.environ.get("LSBUILD_TEST_CACHE", ROOT / "build" / "test-cache")))


@pytest.fixture(scope="session")
def quickstart(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart compiled for this host. Without a package index the wheels cannot be had: then tests skip."""
    out = tmp_path_factory.mktemp("quickstart") / "artifact"
    done = lsbuild(QUICKSTART, "-o", out, "--json")
    if done.code == 3 and ("pypi:" in done.out or "wheels:" in done.out):
        pytest.skip(f"no package index and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    return out


@pytest.fixture(scope="session")
def address(quickstart: Path) -> Iterator[str]:
    """The quickstart, booted; ``http://127.0.0.1:PORT``."""
    process = subprocess.Popen(
        [quickstart / "run", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield line[line.index("http://") :].split()[0]
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()
