"""Real artifacts for the tests of this folder, compiled once for all workers through one shared cache."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="session")
def qemu(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``qemu-aarch64`` of Debian 13: the machine's own is often too old for this."""
    if os.uname().machine != "x86_64" or os.geteuid() != 0:
        pytest.skip("running arm64 under QEMU needs an x86_64 machine and root")
    folder = lsbuild.cache / "tools"
    if not (folder / "qemu-aarch64").exists():
        # Not the machine's own QEMU, whatever its age; but what checks the signature of the packages.
        tools = tmp_path_factory.mktemp("tools")
        if gpgv := shutil.which("gpgv"):
            (tools / "gpgv").symlink_to(gpgv)
        done = lsbuild("doctor", "--fetch", environ={"PATH": str(tools)})
        if done.code == 3:
            pytest.skip(f"no Debian mirror: {done.err}")
    return folder
