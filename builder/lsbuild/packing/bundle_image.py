"""What images of all targets share: a bundle in layers that change for different reasons, its start, and its health check."""

from __future__ import annotations

from collections.abc import Iterator

from lsbuild.api import Bundle
from lsbuild.packing.archive import Member
from lsbuild.packing.boot import BOOTSTRAP
from lsbuild.packing.oci import Layer, Layout

ROOT = "opt/lsbuild"
"""Where the bundle lies in an image."""
_LAYERS = (("wheels", "Python packages"), ("model", "models"), ("index", "indexes"), ("app", "code and manifest"))


def layers(layout: Layout, bundle: Bundle) -> Iterator[Layer]:
    """The files of the bundle, so that a change of code does not ship the weights again."""
    known = {part for part, _ in _LAYERS}
    for part, comment in _LAYERS:
        files = [file for file in bundle.files if (file.part if file.part in known else "app") == part]
        if files:
            yield layout.layer((Member(f"{ROOT}/{each.path}", each.content, each.mode) for each in files), comment)


def entrypoint(python: str, port: int) -> tuple[str, ...]:
    """Starts the server. Later words win: ``docker run IMAGE --port 80`` changes the port."""
    start = ("-c", BOOTSTRAP, "--root", f"/{ROOT}", "--host", "0.0.0.0", "--port", str(port))  # noqa: S104
    return (python, "-I", "-S", "-B", "-X", "utf8", *start)


def health_check(python: str, port: int, route: str) -> tuple[str, ...]:
    """Asks ``route`` of the server; there is no curl in an image."""
    probe = (
        f"import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', {port}, timeout=4); "
        f"c.request('GET', '{route}'); sys.exit(c.getresponse().status != 200)"
    )
    return (python, "-I", "-S", "-c", probe)
