"""A Debian in the place of Lambda's managed Python, where the function is for another architecture than this machine's.

Nothing but Lambda has the managed Python. Debian's of the same version is the same interpreter on a newer C library; which
C library the function needs, the static rules have looked at before.
"""

from __future__ import annotations

import os
from pathlib import Path

from lsbuild.disk import folder_from
from lsbuild.packing.archive import ZIP_EPOCH, write_tree
from lsbuild.packing.debian_base import Mirror, suite_of, uri
from lsbuild.packing.rootfs import join, settings
from lsbuild.sources import FetchContext, debian

_USER = 993
"""Lambda's own user, ``sbx_user1051``."""


def lay_out(python: str, arch: str, root: Path) -> str:
    """Unpack the Debian that has Python ``python`` below ``root``; returns its name. Raises SourceError, OfflineError.

    The packages are the archive's of today, since no artifact with a managed Python has locked any; what the builds of this
    machine have fetched is not fetched again.
    """
    suite = suite_of(python)
    where = uri(suite, Mirror(), arch)
    context = FetchContext(where, root, folder_from(os.environ), False, None, "", lambda *_: None)
    found = join(debian.fetch(where.removeprefix("debian:"), context).files, lambda *_: None)
    members = [*found.values(), *settings(list(found.values()), _USER, "")]
    write_tree(root, {member.path: member for member in members}.values(), ZIP_EPOCH)
    return f"Python {python} of Debian {suite}"
