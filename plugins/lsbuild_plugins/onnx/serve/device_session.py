"""Joins what a session on a GPU needs: the provider's options, the cache of engines, CUDA's libraries, the device's facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from lsbuild_plugins.onnx.serve import engines, provider_settings
from lsbuild_plugins.onnx.serve.accelerated import open_placed
from lsbuild_plugins.onnx.serve.execution import NAMES, Execution, of
from lsbuild_plugins.onnx.serve.ort import ort
from lsbuild_plugins.onnx.serve.provider_settings import Texts
from lsbuild_runtime import nvidia
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host, Placement

ENGINES = "engines"
"""The folder below the server's state folder."""
_QUANTISED = b"DequantizeLinear"
"""The operator that a graph with a quantisation of its own (QDQ) has; int8 without one would want a calibration."""


def open_on_device(
    service: Service, graph: Path, host: Host, options: Any, texts: Texts | None
) -> tuple[ort.InferenceSession, Placement]:
    """The session and where it runs; see accelerated.open_placed."""
    execution = of(service)
    if execution.precision == "int8" and _QUANTISED not in graph.read_bytes():
        execution = structs.replace(execution, precision="fp16")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if execution.bundled:
        ort.preload_dlls(directory="")
    opening = Opening(service, execution, graph, host, options, texts)
    return open_placed(service, execution, ort.get_available_providers(), opening.open, _missing)


def _missing(provider: str) -> str:
    """What a provider needs and does not load here; onnxruntime writes such faults to its log and tells nobody."""
    missing = nvidia.facts().missing
    return ", ".join(f"no {name}" for name in nvidia.NEEDED.get(provider, ()) if name in missing)


class Opening:
    """Opens one graph with the providers it is asked for."""

    def __init__(
        self, service: Service, execution: Execution, graph: Path, host: Host, options: Any, texts: Texts | None
    ) -> None:
        self._service = service
        self._execution = execution
        self._graph = graph
        self._host = host
        self._options = options
        self._texts = texts

    def open(self, order: tuple[str, ...]) -> ort.InferenceSession:
        """See accelerated.OpenWith. TensorRT's engines come from the cache, where there is a folder for one."""
        if order[0] != "tensorrt":
            return self._session(order, None)
        folder = self._folder()
        if folder is None:
            self._tell("building engines, which this server without a state folder cannot keep")
            return self._session(order, None)
        return engines.open_cached(folder, self._key(), lambda place: self._session(order, place), self._tell)

    def _session(self, order: tuple[str, ...], place: Path | None) -> ort.InferenceSession:
        known = {
            "tensorrt": lambda: provider_settings.tensorrt(self._execution, self._texts, place),
            "cuda": lambda: provider_settings.cuda(self._execution),
        }
        providers = [(NAMES[name], known[name]() if name in known else {}) for name in order]
        return ort.InferenceSession(str(self._graph), self._options, providers=providers, enable_fallback=False)

    def _folder(self) -> Path | None:
        try:
            folder = self._host.state(ENGINES) / re.sub(r"[^\w.-]", "_", self._service.name)
            folder.mkdir(mode=0o700, exist_ok=True)
        except (ApiError, OSError):
            return None
        return folder

    def _key(self) -> str:
        facts = nvidia.facts()
        about = (facts.tensorrt, facts.sm, facts.driver, ort.__version__, self._execution.precision, repr(self._texts))
        weights = self._graph.with_name("model.data")
        return engines.key_of([self._graph, *([weights] if weights.is_file() else [])], about)

    @property
    def _tell(self) -> Callable[[str], None]:
        """How the host is told what takes so long; one that opens services on first use has nobody to tell."""

        def tell(what: str) -> None:
            told = getattr(self._host, "tell", None)
            if told is not None:
                told(f"{what} for {self._service.name}")

        return tell
