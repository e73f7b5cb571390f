"""A graph that reads token ids: opened on the engine that the artifact has, and run on rows of equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.batches import BATCH_TOKENS
from lsbuild_plugins.onnx.serve.session import available_cpus, number, open_for, reason
from lsbuild_plugins.onnx.serve.tensor import Tensor, filled, integers
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host, Placement

Ids = tuple[int, ...]
Card = model_format.Encoder | model_format.Reranker | model_format.Classifier


class Session(Protocol):
    """One opened graph."""

    inputs: tuple[str, ...]

    def run(self, output: str, feeds: Mapping[str, Tensor]) -> Tensor:
        """The output of that name, float32."""
        ...


class TextGraph:
    """The graph of an encoder, a reranker or a classifier. Runs of several threads may overlap.

    ``rows`` is the most inputs of one run; ``placement`` is None where nothing but the CPU was asked for.
    """

    def __init__(
        self, name: str, card: Card, session: Session, rows: int = BATCH_TOKENS, placement: Placement | None = None
    ) -> None:
        self._name = name
        self._card = card
        self._session = session
        self.rows = rows
        self.placement = placement
        differ = set(session.inputs) ^ set(card.inputs)
        if differ:
            raise unavailable(name, f"the graph's inputs differ from model.json: {', '.join(sorted(differ))}")

    def run(self, ids: Sequence[Ids], types: Sequence[Ids] | None = None) -> Tensor:
        """What the graph gives for rows of equal length, so that nothing is padded. ``types`` default to 0 throughout.

        Raises ApiError 503 with onnxruntime's reason.
        """
        shape = (len(ids), len(ids[0]))
        made = {
            "input_ids": lambda: integers(ids),
            "attention_mask": lambda: filled(shape, 1, self._card.mask),
            "token_type_ids": lambda: integers(types) if types else filled(shape, 0),
            "position_ids": lambda: integers([range(shape[1])] * shape[0]),
        }
        feeds = {name: made[name]() for name in self._card.inputs}
        try:
            return self._session.run(self._card.output, feeds)
        except Exception as error:
            raise unavailable(self._name, f"onnxruntime failed: {reason(error)}") from error


def open_text_graph(service: Service, folder: Path, card: Card, host: Host) -> TextGraph:
    """Open ``folder/model.onnx``. Raises ApiError 503 when it does not load, or takes something else than the card says.

    ``service.config``: ``threads`` (default: the CPUs this process may use), ``execution`` (see execution.Execution).
    """
    graph = folder / "model.onnx"
    if "execution" not in service.config:
        from lsbuild_plugins.onnx.serve import capi  # ctypes, which a language model alone has no use for

        library = capi.library()
        if library is not None:
            return TextGraph(service.name, card, _native(service, graph, library))
    from lsbuild_plugins.onnx.serve.numpy_session import Session as NumpySession
    from lsbuild_plugins.onnx.serve.provider_settings import Texts

    opened = open_for(service, graph, host, Texts(card.inputs, card.max_tokens))
    return TextGraph(service.name, card, NumpySession(opened.session), opened.rows, opened.placement)


def _native(service: Service, graph: Path, library: Path) -> Session:
    from lsbuild_plugins.onnx.serve import capi

    threads = number(service, "threads", available_cpus())
    try:
        return capi.Session(library, graph, threads)
    except (capi.OrtError, OSError) as error:
        raise unavailable(service.name, f"onnxruntime could not load {graph.name}: {reason(error)}") from error
