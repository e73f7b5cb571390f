"""Starts the container of the slot that ``current`` names; run by the unit of a container host, as root.

Its words: UNIT PRODUCT FACTORY UPDATES [WORDS OF `podman run`] -- [OPTIONS OF THE SERVER]. The image of a slot is loaded
when podman has none of that digest; what no slot names any more is removed from podman.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lsbuild_runtime.updates.start import chosen

NOTHING = 12
"""Exit code where no version was applied yet."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Become ``podman run``; its exit code is that of the server."""
    unit, product, factory, updates, *rest = arguments
    root = chosen(factory, updates)
    if not Path(root, "image").is_dir():
        sys.stderr.write(f"{unit}: no version is there yet; apply a first update\n")
        sys.exit(NOTHING)
    # podman names an image after the folder it came from: each slot has one name, and what it named before has none.
    image = _podman("pull", "--quiet", f"oci:{root}/image").split()[-1]
    _podman("image", "prune", "--force", "--filter", f"label=org.opencontainers.image.title={product}")
    words, options = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    run = ["podman", "run", "--rm", "--replace", f"--name={unit}", "--pull=never", *words, image, *options]
    os.execvp("podman", run)  # noqa: S606, S607


def _podman(*words: str) -> str:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.stderr.write(f"podman {' '.join(words[:2])}: {done.stderr.strip()[-600:]}\n")
        sys.exit(done.returncode)
    return done.stdout
