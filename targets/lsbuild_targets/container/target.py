"""Target ``container``: an OCI image layout for amd64 and arm64, and a tar for ``docker load``; no daemon, no registry.

The base is made of Debian packages, without a shell and without a package manager. Layers change for different reasons:
base, wheels, models, indexes, code; so a change of code does not ship the weights again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from lsbuild import bytecode, toolbox
from lsbuild.api import (
    SERVER_WHEELS,
    Artifact,
    Bundle,
    Check,
    LsbuildError,
    Manifest,
    Platform,
    Slot,
    Source,
    Step,
    TargetError,
)
from lsbuild.packing import base_image, bundle_image, slots
from lsbuild.packing.archive import check_paths, normalise, source_date_epoch, tree_sha256, tree_size
from lsbuild.packing.boot_image import boot, require_machine
from lsbuild.packing.bundle_image import ROOT
from lsbuild.packing.debian_base import ARCHES, SUITES, bytecode_steps, rootfs_step, suite_of, tools_uri, uri
from lsbuild.packing.oci import Image, Layout, Settings
from lsbuild.packing.oci_read import ReadImage, check_blobs, images, published
from lsbuild.packing.place import new_folder
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, from_json, read
from lsbuild_targets.container import compose, kubernetes, serverless
from lsbuild_targets.container.foundation import Foundation, foundation
from lsbuild_targets.container.options import REFERENCE, Options, checked
from lsbuild_targets.container.workload import Workload, workload


class Container:
    """Packs one bundle for each architecture into one image; implements ``lsbuild.api.Target``."""

    name = "container"
    wheels = SERVER_WHEELS
    tools = (toolbox.PODMAN, toolbox.RUNC, toolbox.UNSHARE, toolbox.QEMU_USER, toolbox.SKOPEO)
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """One platform for each architecture, with the Python and the glibc of the base."""
        chosen = checked(options)
        base = chosen.base
        python, glibc = (base.version, base.glibc) if base.image else (SUITES[base.suite][0], SUITES[base.suite][2])
        return tuple(Platform(ARCHES[arch], python, glibc) for arch in chosen.arch)

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:
        """``debs`` or ``base`` for the image, ``tools`` the same Python for this machine, which compiles the bytecode."""
        base = checked(options).base
        suite = suite_of(platform.python)
        tools = {"tools": tools_uri(suite, base)} if suite else {}
        if base.image:
            return {"base": f"{base.image}#linux/{_docker_arch(platform)}", **tools}
        return {"debs": uri(base.suite, base, platform.arch), **tools}

    def steps(self, options: BaseModel, platform: Platform, sources: Mapping[str, Source]) -> Mapping[str, Step]:
        """The base, and bytecode for code and wheels unless lsbuild runs on the very Python of the image."""
        chosen = checked(options)
        if "base" in sources:
            steps = {"base": base_image.base_step(platform, sources["base"])}
        else:
            steps = {"rootfs": rootfs_step(platform, chosen.base.suite, chosen.user, sources["debs"], sources["tools"])}
        if "tools" in sources and not bytecode.matches(platform.python):
            steps |= bytecode_steps(platform, sources["tools"])
        return steps

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write ``out/image`` (OCI layout) and ``out/NAME-ARCH.docker.tar``; unchanged layers of an older one are kept."""
        chosen = checked(options)
        name = bundles[0].manifest.name
        reference = chosen.tag or f"{name}:latest"
        if not REFERENCE.fullmatch(reference):
            raise TargetError(
                f"{reference!r} cannot be the name of an image", hint="set targets.container.tag to name:tag"
            )
        for bundle in bundles:
            check_paths(file.path for file in bundle.files)
        workload(bundles, chosen, reference, "")  # what it refuses, it refuses before anything is written
        mtime = source_date_epoch()
        with new_folder(out, is_artifact) as folder:
            layout = Layout(folder / "image", mtime, before=out / "image" if is_artifact(out) else None)
            packed = [_image(layout, bundle, chosen) for bundle in bundles]
            layout.index(packed, reference)
            digest = published(layout.root).top.digest
            for file, data in _deployment_files(workload(bundles, chosen, reference, digest)):
                (folder / file).write_bytes(data)
            for image in packed:
                if image.arch in (chosen.archives if chosen.archives is not None else chosen.arch[:1]):
                    layout.docker_archive(folder / f"{name}-{image.arch}.docker.tar", image, reference)
            normalise(folder, mtime)
        arches = ", ".join(image.arch for image in packed)
        sent = {f"{image.arch} image": sum(layer.blob.size for layer in image.layers) for image in packed}
        return Artifact(out, tree_sha256(out), tree_size(out), f"OCI image layout ({arches})", sent)

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The manifest of each image of a layout; nothing for anything else."""
        if not is_artifact(artifact):
            return ()
        return tuple(_manifest(image) for image in images(artifact / "image"))

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Check every blob and file, then boot each image: with podman, in a chroot, or under QEMU."""
        layout = artifact / "image"
        try:
            yield Check("blobs", True, f"{check_blobs(layout)} blobs match their digests")
            found = images(layout)
        except LsbuildError as error:
            yield Check("blobs", False, str(error))
            return
        for image in found:
            yield from _verify_image(image, ask)

    def slots(self, artifact: Path, scratch: Path) -> tuple[Slot, ...]:  # noqa: ARG002
        """Each image by itself; implements ``lsbuild.api.Updates``."""
        return slots.of_images(artifact / "image", self.manifests(artifact))

    def layout(self, artifact: Path) -> Path | None:
        """The image, to be pushed to a registry; implements ``lsbuild.api.Images``."""
        return artifact / "image" if is_artifact(artifact) else None


TARGET = Container()


def is_artifact(folder: Path) -> bool:
    """Whether this target wrote the folder: it holds an image layout in ``image``."""
    return (folder / "image" / "oci-layout").is_file() and (folder / "image" / "index.json").is_file()


def _deployment_files(work: Workload) -> Iterator[tuple[str, bytes]]:
    yield kubernetes.FILE, kubernetes.kubernetes(work)
    yield serverless.KNATIVE, serverless.knative(work)
    yield serverless.KSERVE, serverless.kserve(work)
    yield compose.FILE, compose.compose(work)


def _image(layout: Layout, bundle: Bundle, options: Options) -> Image:
    arch = _docker_arch(bundle.platform)
    base = foundation(layout, bundle, options)
    layers = [*base.layers, *bundle_image.layers(layout, bundle)]
    return layout.image(arch, layers, _settings(bundle, options, base))


def _docker_arch(platform: Platform) -> str:
    return next(debian for debian, kernel in ARCHES.items() if kernel == platform.arch)


def _settings(bundle: Bundle, options: Options, base: Foundation) -> Settings:
    python, port = base.python, options.port(bundle.manifest.server.port)
    return Settings(
        entrypoint=bundle_image.entrypoint(python, port),
        user=f"{options.user}:{options.user}",
        port=port,
        env=(*(each for each in base.env if not each.startswith(("LANG=", "HOME="))), "LANG=C.UTF-8", "HOME=/tmp"),
        labels={
            "org.opencontainers.image.title": bundle.manifest.name,
            "org.opencontainers.image.version": bundle.manifest.lsbuild,
            "org.opencontainers.image.description": f"{bundle.manifest.name}, compiled by lsbuild",
            **base.labels,
        },
        health=bundle_image.health_check(python, port, "/v1/health"),
    )


def _manifest(image: ReadImage) -> Manifest:
    content = image.find(f"{ROOT}/{FILE_NAME}")
    if content is None:
        raise TargetError(f"the {image.arch} image has no {ROOT}/{FILE_NAME}")
    return from_json(content)


def _verify_image(image: ReadImage, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    """Unpack an image, compare its files with its manifest, look at its native code, and boot it."""
    with TemporaryDirectory(prefix="lsbuild-verify-") as folder:
        root = Path(folder, "root")
        root.mkdir()
        try:
            image.unpack(root)
            manifest = read(root / ROOT)
            check_files(root / ROOT, manifest.files)
            count = require_machine(root, ARCHES[image.arch])
        except (LsbuildError, ManifestError) as error:
            yield Check(f"{image.arch} files", False, str(error))
            return
        yield Check(
            f"{image.arch} files", True, f"{len(manifest.files)} files match the manifest, {count} native ones fit"
        )
        for check in boot(image, root, ask):
            yield replace(check, name=f"{image.arch} {check.name}")
