"""A key, a factory, and a little device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsbuild.delivery import signing
from update_tools import Machine, make, tree, write_artifact


@pytest.fixture
def key(tmp_path: Path) -> signing.SigningKey:
    """The key that the device trusts."""
    return signing.new(tmp_path / "ota.key", "")


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """What was installed: version "0"."""
    return write_artifact(tmp_path / "factory", tree("0"))


@pytest.fixture
def machine(tmp_path: Path, factory: Path, key: signing.SigningKey) -> Iterator[Machine]:
    """The device."""
    (tmp_path / "device").mkdir()
    with Machine(tmp_path / "device", factory, [key.public]) as found:
        yield found


MakeUpdate = Callable[..., Path]


@pytest.fixture
def make_update(tmp_path: Path, key: signing.SigningKey) -> MakeUpdate:
    """``make_update(version, text=, weights=, key=, web=, artifact options, order options)``: a bundle, or a folder."""

    def made(version: int, *, web: bool = False, **wanted: object) -> Path:
        folder = tmp_path / f"made-{len(list(tmp_path.glob('made-*')))}"
        folder.mkdir()
        text = str(wanted.pop("text", version))
        files = wanted.pop("files", None) or tree(text)
        about = {name: wanted.pop(name) for name in ("name", "platform") if name in wanted}
        artifact = write_artifact(folder / "artifact", files, **about)  # type: ignore[arg-type]
        out = folder / ("web" if web else "update.lsu")
        if web:
            out.mkdir()
        make(artifact, wanted.pop("key", key), out, version, **wanted)  # type: ignore[arg-type]
        return out

    return made
