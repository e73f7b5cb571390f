"""The command line: parses, calls the library, prints, exits; the only place that does the last two.

Nothing heavy is imported at the top of its modules, so that ``--help`` answers at once.
"""

from lsbuild.cli import (  # each adds its commands to the group
    artifacts,
    building,
    delivering,
    projects,
    updating,
    upkeep,
)
from lsbuild.cli.group import main

__all__ = ["artifacts", "building", "delivering", "main", "projects", "updating", "upkeep"]
