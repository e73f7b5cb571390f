"""Model folders and opened models for the tests of this folder; every engine is closed after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild_plugins.onnx.serve.encoder import Encoder, open_encoder
from lsbuild_plugins.onnx.serve.engine import Engine, open_engine
from onnx_serve_models import NoHost, make_growing, service, write_decoder, write_encoder


@pytest.fixture(scope="session")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder") / "float")


@pytest.fixture(scope="session")
def int4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("quantised") / "int4", "int4")


@pytest.fixture(scope="session")
def growing_folder(float_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growing") / "model"
    made = make_growing(float_folder, folder)
    (folder / "model.data").write_bytes((float_folder / "model.data").read_bytes())
    return made


@pytest.fixture
def open_model() -> Iterator[Callable[..., Engine]]:
    opened: list[Engine] = []

    def opens(folder: Path, **config: Any) -> Engine:
        opened.append(open_engine(service("tiny", **config), folder, NoHost()))
        return opened[-1]

    yield opens
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(open_model: Callable[..., Engine], float_folder: Path) -> Engine:
    return open_model(float_folder)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "float")


@pytest.fixture
def encoder(encoder_folder: Path) -> Encoder:
    return open_encoder(service("embed"), encoder_folder, NoHost())
