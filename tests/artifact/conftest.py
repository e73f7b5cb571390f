"""Real artifacts for the tests of this folder, compiled once for all workers through one shared cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact_tools import QUICKSTART, ROOT, Lsbuild, booted, compiled


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
    """The quickstart compiled for this host."""
    return compiled(lsbuild, QUICKSTART, tmp_path_factory.mktemp("quickstart") / "artifact")


@pytest.fixture(scope="session")
def address(quickstart: Path) -> Iterator[str]:
    """The quickstart, booted; ``http://127.0.0.1:PORT``."""
    with booted(quickstart) as found:
        yield found
