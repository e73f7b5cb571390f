"""The serve half of `inline::rules`: opens compiled rules as a shield; it knows no YAML and no builder."""

from __future__ import annotations

from pathlib import Path

from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host


def open_shield(service: Service, root: Path, host: Host) -> Shield:  # noqa: ARG001
    """The shield whose compiled rules lie in the service's folder; ManifestError when they cannot be read."""
    from lsbuild_plugins.rules.serve.format import read

    return Shield(read(root / service.path))
