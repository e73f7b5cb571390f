"""The name of an image in a registry: ``HOST/NAME:TAG`` and ``HOST/NAME@sha256:HEX``; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsbuild.distribution.errors import DistributionError

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d+)?")
_HUB, _HUB_API = "docker.io", "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """``tag`` and ``digest`` are "" where the text has none."""

    host: str
    name: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """``HOST/NAME``."""
        return f"{self.host}/{self.name}"

    @property
    def server(self) -> str:
        """The host that is asked: Docker Hub's API lives at another one than its name says."""
        return _HUB_API if self.host == _HUB else self.host

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read ``HOST/NAME[:TAG][@sha256:HEX]``. Raises DistributionError; the host is never guessed."""
    rest, _, digest = text.partition("@")
    host, slash, path = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise DistributionError(
            f"{text!r} names no registry",
            hint="write HOST/NAME:TAG, like registry.example/team/assistant:1.0; Docker Hub is docker.io/USER/NAME",
        )
    name, colon, tag = path.partition(":")
    if host == _HUB and "/" not in name:
        name = f"library/{name}"
    if not (
        _HOST.fullmatch(host)
        and _NAME.fullmatch(name)
        and (_TAG.fullmatch(tag) or not colon)
        and (_DIGEST.fullmatch(digest) or "@" not in text)
    ):
        raise DistributionError(
            f"{text!r} is not the name of an image",
            hint="write HOST/NAME:TAG or HOST/NAME@sha256:HEX, the name in small letters",
        )
    return Reference(host, name, tag, digest)
