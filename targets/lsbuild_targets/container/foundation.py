"""What an image is laid upon: Debian packages, or the layers of another image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lsbuild.api import Bundle
from lsbuild.packing import base_image, native
from lsbuild.packing.archive import Member
from lsbuild.packing.oci import Layer, Layout
from lsbuild.packing.oci_read import Blob
from lsbuild.packing.rootfs import TAR
from lsbuild_targets.container.options import Options


@dataclass(frozen=True, slots=True)
class Foundation:
    """What ours is laid upon: its layers, where its Python is, what its containers have in their environment, its names."""

    layers: tuple[Layer, ...]
    python: str
    env: tuple[str, ...]
    labels: Mapping[str, str]


def foundation(layout: Layout, bundle: Bundle, options: Options) -> Foundation:
    """Put the layers of the base into ``layout``. Raises TargetError for one without a library that the bundle needs."""
    name = "org.opencontainers.image.base.name"
    if "base" not in bundle.extras:
        suite = options.base.suite
        layer = layout.tar_layer(bundle.extras["rootfs"] / TAR, f"Debian {suite}")
        return Foundation(
            (layer,), f"/usr/bin/python{bundle.platform.python}", ("PATH=/usr/bin",), {name: f"debian:{suite}"}
        )
    folder = bundle.extras["base"]
    found = base_image.read(folder)
    native.require_libraries(bundle, found.libraries, "targets.container.base.image")
    layers = [
        layout.adopt(folder / each.file, Blob(each.media, each.digest, each.size), each.diff_id, "base")
        for each in found.layers
    ]
    # What our layers need that a base may lack: /tmp, and a place for what is kept.
    own = [Member("tmp", mode=0o1777), Member("var/lib/lsbuild", owner=options.user, mode=0o755)]
    labels = {name: found.name.removeprefix("oci:").lstrip("/"), "org.opencontainers.image.base.digest": found.digest}
    return Foundation((*layers, layout.layer(own, "folders")), found.python, found.env, labels)
