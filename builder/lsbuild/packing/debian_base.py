"""The Debian base that images stand on: which packages it is made of, and the steps that prepare it and compile for it."""

from __future__ import annotations

from platform import machine
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Platform, Source, Step, TargetError

ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's and OCI's name of an architecture -> the kernel's."""
SUITES = {"bookworm": ("3.11", "12", "2.36"), "trixie": ("3.13", "13", "2.41")}
"""Suite -> its Python, its release number, its glibc."""
_PACKAGES = ("python{python}-minimal", "libpython{python}-stdlib", "libstdc++6", "netbase", "ca-certificates")
_NEVER_USED = (
    *("debconf", "openssl", "openssl-provider-legacy", "media-types", "tzdata"),
    # What only the interactive interpreter, curses, dbm and nis of the standard library are linked with.
    *(
        "libdb5.3",
        "libdb5.3t64",
        "libreadline8",
        "libreadline8t64",
        "libncursesw6",
        "libtinfo6",
        "libnsl2",
        "libtirpc3",
    ),
)
_CODE = ("lsbuild.packing.rootfs", "lsbuild.packing.deb", "lsbuild.packing.untar", "lsbuild.packing.archive")


class Mirror(BaseModel):
    """Where the packages come from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    mirror: str | None = Field(default=None, pattern=r"^https?://[^#\s]+$")
    """URL of a Debian mirror. Default: the one of this machine's apt configuration."""
    security: str | None = Field(default=None, pattern=r"^https?://[^#\s]+$")
    """URL of a mirror of Debian's security updates, when ``mirror`` is given."""


class Base(Mirror):
    """What the image is built upon."""

    suite: Literal["trixie", "bookworm"] = "trixie"
    """Debian suite: ``trixie`` brings Python 3.13, ``bookworm`` 3.11."""


def suite_of(python: str) -> str:
    """The suite that brings Python ``python``; "" when none does."""
    return next((suite for suite, (brings, _, _) in SUITES.items() if brings == python), "")


def uri(suite: str, mirror: Mirror, arch: str) -> str:
    """The source of the base's packages for ``arch`` (either name of it)."""
    debian = next((debian for debian, kernel in ARCHES.items() if arch in (kernel, debian)), None)
    if debian is None:
        raise TargetError(f"images cannot be built on {arch}", hint="use an x86_64 or aarch64 machine")
    names = [name.format(python=SUITES[suite][0]) for name in _PACKAGES] + [f"-{name}" for name in _NEVER_USED]
    found = f"debian:{suite}/{debian}?{','.join(names)}"
    if mirror.mirror:
        found += f"#mirror={mirror.mirror}" + (f"&security={mirror.security}" if mirror.security else "")
    return found


def tools_uri(suite: str, mirror: Mirror) -> str:
    """The same packages for this machine, whose Python compiles the bytecode."""
    return uri(suite, mirror, machine())


def rootfs_step(platform: Platform, suite: str, user: int, debs: Source, tools: Source) -> Step:
    """The step that makes the base file system of a platform; it runs as ``user``."""
    return Step(
        name=f"rootfs.{platform.tag}",
        run="lsbuild.packing.rootfs:extract",
        options={"python": platform.python, "user": user, "release": SUITES[suite][1]},
        sources={"debs": debs, "tools": tools},
        code=_CODE,
    )


def bytecode_steps(platform: Platform, tools: Source) -> dict[str, Step]:
    """The steps that compile code and wheels with the Python in ``tools``."""
    return {
        "bytecode-app": _bytecode(platform, tools, "app", "app", "app"),
        "bytecode-site": _bytecode(platform, tools, "wheels", "site", "wheels"),
    }


def _bytecode(platform: Platform, tools: Source, made_by: str, ship: str, part: str) -> Step:
    return Step(
        name=f"bytecode-{ship}.{platform.tag}",
        run="lsbuild.packing.rootfs:bytecode",
        options={"python": platform.python},
        sources={"tools": tools},
        needs={"code": f"{made_by}.{platform.tag}"},
        code=_CODE,
        ship=ship,
        part=part,
    )
