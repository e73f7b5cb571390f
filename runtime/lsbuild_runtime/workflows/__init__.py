"""Workflows: steps that are done one after the other, each kept as it ends. Light, for start: it loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

FOLDER = "workflows"
"""Below the state folder."""
FILE_NAME = "runs.sqlite"
API = "workflows"


def resume(site: Site) -> None:
    """Go on with what an earlier process left; costs one look for a file when there is nothing."""
    if site.services.keeps(f"{FOLDER}/{FILE_NAME}"):
        from lsbuild_runtime.workflows.service import Workflows

        site.kept(Workflows).worker.wake()
