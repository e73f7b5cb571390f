"""What onnxruntime is told for a GPU, and where engines lie; a small engine stands where onnxruntime for GPUs would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lsbuild_plugins.onnx.serve import device_session
from lsbuild_plugins.onnx.serve.device_session import open_on_device
from lsbuild_plugins.onnx.serve.execution import NAMES
from lsbuild_plugins.onnx.serve.provider_settings import Texts
from lsbuild_runtime.http import ApiError
from onnx_serve_models import NoHost, service

TEXTS = Texts(("input_ids",), 64)
Providers = list[tuple[str, dict[str, str]]]


class Engine:
    """An onnxruntime with all providers: with TensorRT it writes an engine where it is told to, once."""

    __version__ = "1.31.0"

    def __init__(self) -> None:
        self.asked: list[Providers] = []
        self.built = 0
        self.preloaded: list[str] = []

    def get_available_providers(self) -> list[str]:
        return list(NAMES.values())

    def preload_dlls(self, directory: str) -> None:
        self.preloaded.append(directory)

    def InferenceSession(  # noqa: N802 - onnxruntime's name
        self, _graph: str, options: Any, *, providers: Providers, enable_fallback: bool
    ) -> Any:
        assert not enable_fallback
        assert options.entries == {"session.record_ep_graph_assignment_info": "1"}
        self.asked.append(providers)
        first, settings = providers[0]
        place = settings.get("trt_engine_cache_path")
        if place and not (Path(place) / "model_0.engine").exists():
            self.built += 1
            (Path(place) / "model_0.engine").write_bytes(b"whole")
        parts = [SimpleNamespace(ep_name=first, get_nodes=lambda: [SimpleNamespace(op_type="MatMul")])]
        registered = [name for name, _ in providers]
        return SimpleNamespace(get_providers=lambda: registered, get_provider_graph_assignment_info=lambda: parts)


class Options:
    """Session options that remember what they are told."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class Host(NoHost):
    """A host with a state folder, which hears what takes long."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.heard: Counter[str] = Counter()

    def state(self, name: str) -> Path:
        (self._folder / name).mkdir(exist_ok=True)
        return self._folder / name

    def tell(self, what: str) -> None:
        self.heard[what] += 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(device_session, "ort", made)
    return made


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"MatMul")
    return path


def opened(graph: Path, host: Any, **execution: Any) -> Any:
    execution = {"providers": ["tensorrt", "cuda", "cpu"], **execution}
    return open_on_device(service("a/b", execution=execution), graph, host, Options(), TEXTS)[1]


def test_engines_lie_in_the_state_folder_by_model_and_are_built_once(
    engine: Engine, graph: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        host = Host(tmp_path)
        found = opened(graph, host, precision="fp16")
        assert (found.provider, found.why) == ("tensorrt", "")
    assert engine.built == 1
    assert host.heard == {}
    (key,) = (tmp_path / "engines" / "a_b").glob("*/")
    providers, settings = zip(*engine.asked[-1], strict=True)
    assert providers == tuple(NAMES.values())
    assert settings[0]["trt_engine_cache_path"] == str(key)
    assert settings[0]["trt_fp16_enable"] == "True"
    assert settings[0]["trt_profile_max_shapes"] == "input_ids:32x64"
    assert settings[1]["device_id"] == "0"


def test_another_graph_or_precision_has_engines_of_its_own(engine: Engine, graph: Path, tmp_path: Path) -> None:
    host = Host(tmp_path)
    opened(graph, host)
    opened(graph, host, precision="fp16")
    graph.write_bytes(b"MatMul Add")
    opened(graph, host, precision="fp16")
    assert engine.built == 3
    assert host.heard == {"building engines for a/b": 3}
    assert len(list((tmp_path / "engines" / "a_b").glob("*/"))) == 1


def test_int8_is_for_graphs_with_their_own_quantisation(engine: Engine, graph: Path, tmp_path: Path) -> None:
    opened(graph, Host(tmp_path), precision="int8")
    assert "trt_int8_enable" not in engine.asked[-1][0][1]
    assert engine.asked[-1][0][1]["trt_fp16_enable"] == "True"
    graph.write_bytes(b"QuantizeLinear DequantizeLinear")
    opened(graph, Host(tmp_path), precision="int8")
    assert engine.asked[-1][0][1]["trt_int8_enable"] == "True"


def test_without_a_state_folder_nothing_is_kept(engine: Engine, graph: Path) -> None:
    class Stateless(NoHost):
        def state(self, name: str) -> Path:
            raise ApiError(503, f"no state for {name}", code="no_state")

    found = opened(graph, Stateless())
    assert found.provider == "tensorrt"
    assert "trt_engine_cache_enable" not in engine.asked[-1][0][1]


def test_cuda_alone_needs_no_engines_and_takes_packed_libraries(engine: Engine, graph: Path) -> None:
    found = opened(graph, NoHost(), providers=["cuda", "cpu"], bundled=True, memory=1 << 30, device=1)
    assert found.provider == "cuda"
    assert engine.preloaded == [""]
    assert engine.asked[-1][0][1]["gpu_mem_limit"] == str(1 << 30)
    assert engine.asked[-1][0][1]["device_id"] == "1"
