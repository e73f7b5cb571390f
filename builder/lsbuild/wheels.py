"""Python wheels for a platform: which to fetch, and the step that unpacks, trims and checks them.

Fetching is ``sources.wheels``'; this module declares and runs the step ``lsbuild.wheels:unpack``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER
from urllib.parse import quote

from lsbuild.api import Platform, Source, Step


def source_uri(platform: Platform, requirements: Iterable[str]) -> str:
    """The canonical URI of the wheels that satisfy ``requirements`` on ``platform``; resolved by ``sources.resolve``."""
    wanted = sorted({requirement.replace(" ", "") for requirement in requirements})
    tail = "&".join(quote(requirement, safe="[]<>=!~,.;*'") for requirement in wanted)
    return f"wheels:{platform.tag}-glibc{platform.glibc}?{tail}"


def step(platform: Platform, uri: str, source: Source) -> Step:  # noqa: ARG001
    """The step that turns the wheels of ``source`` into the folder ``site`` of the bundle."""
    same = platform.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    return Step(
        name=f"wheels.{platform.tag}",
        run="lsbuild.wheels:unpack",
        options={
            "platform": {"arch": platform.arch, "python": platform.python, "glibc": platform.glibc},
            "bytecode": MAGIC_NUMBER.hex() if same else "",
        },
        sources={"wheels": source},
        code=("lsbuild.wheels", "lsbuild.elf", "lsbuild.prune"),
        ship="site",
        part="wheels",
    )
