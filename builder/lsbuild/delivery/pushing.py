"""Brings an artifact to another machine: over ssh, where its target installs it, or as an image to a registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from lsbuild import disk, inspection
from lsbuild.api import Images, Installed, Pushes
from lsbuild.delivery.finding import target_with
from lsbuild.delivery.remote import Remote
from lsbuild.distribution import credentials
from lsbuild.distribution import push as pushes
from lsbuild.distribution import reference as references
from lsbuild.distribution.client import Host
from lsbuild.distribution.errors import told_as
from lsbuild.distribution.known import Known
from lsbuild.distribution.push import Pushed
from lsbuild.errors import TargetError


def layout(artifact: Path) -> Path | None:
    """The image layout in ``artifact``; None when it is no image. Raises VerifyError for what is no artifact."""
    target = inspection.inspect(artifact).target
    return cast("Images", target).layout(artifact) if hasattr(target, "layout") else None


def push(artifact: Path, remote: Remote, say: Callable[[str], None]) -> Installed:
    """Install ``artifact`` over ssh and wait until it serves. Raises VerifyError, TargetError."""
    target = target_with(artifact, "push", "installed over ssh")
    return cast("Pushes", target).push(artifact, remote, say)


def publish(
    image: Path,
    to: str,
    say: Callable[[str], None],
    *,
    plain_http: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Pushed:
    """Push the layout ``image`` to a registry as ``to`` (``HOST/NAME:TAG``). Raises VerifyError, TargetError.

    Logins are those of Docker and podman. Plain http is spoken with this machine, with others only where asked.
    """
    with told_as(TargetError, to):
        named = references.parse(to)
        host = Host(named.server, credentials.find(named.host, environ), plain_http)
        return pushes.push(image, named, host, Known(disk.folder_from(environ), named.server), say)
