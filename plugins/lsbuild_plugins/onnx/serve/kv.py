"""Runs a decoder graph over its key-value memory; it knows positions and tokens, nothing of text or sampling.

A memory holds the keys and values of ``held``, the tokens it has read. A request whose prompt begins with the same
tokens continues from there (``reuse``). Exactness: onnxruntime's kernels work on pairs of rows, and a row left over
(every row of a one-token step) goes through another kernel that rounds differently: by 1e-5 with float weights, by up
to 0.3 logit with MatMulNBits at accuracy_level 4. So that a reused or chunked prompt gives the logits of a cold one,
prompts are cut at multiples of ALIGN only and a cut leaves at least two tokens: bit-identical in 295 of 297 ways to cut
that were tried on x86 (without it 173), and 2e-6 apart in the others.
Answer tokens were read one by one; a later request that contains them reuses those values, as any prefix cache does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.onnx.serve.format import Decoder
from lsbuild_plugins.onnx.serve.ort import ort
from lsbuild_plugins.onnx.serve.session import reason
from lsbuild_runtime.http import ApiError

Logits = NDArray[np.float32]
"""f32[R,V], valid until the next run."""

ALIGN = 4
"""Rows that a kernel takes at once: two were seen on x86; four also suits kernels that take four."""
_DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

_DEVICES = {"CUDAExecutionProvider": "cuda"}
"""Providers whose memory is not the CPU's -> onnxruntime's name of it."""
_GROWING_INPUTS = {"input_ids", "attention_mask", "position_ids"}


class Memory(Protocol):
    """Both kinds of graph."""

    held: list[int]

    def run(self, tokens: Sequence[int], rows: slice) -> Logits:
        """Append ``tokens`` to ``held`` and give the logits of ``rows`` of them. ``len(held)`` must stay <= context."""
        ...

    def keep(self, count: int) -> None:
        """Forget all but the first ``count`` tokens of ``held``."""
        ...


def open_memory(session: ort.InferenceSession, card: Decoder) -> Memory:
    """The memory that suits ``card.cache``; raises ValueError when the graph takes other inputs than the card says."""
    past = {f"past_key_values.{layer}.{part}" for layer in range(card.layers) for part in ("key", "value")}
    found = {value.name for value in session.get_inputs()}
    if found != past | set(card.inputs):
        raise ValueError(
            f"its inputs differ from model.json: {', '.join(sorted(found ^ (past | set(card.inputs)))[:8])}"
        )
    odd = {value.name for value in session.get_inputs() if value.name in past and value.type not in _DTYPES}
    odd |= set() if card.cache == "inplace" else set(card.inputs) - _GROWING_INPUTS
    if odd:
        raise ValueError(f"it has inputs that are not supported: {', '.join(sorted(odd)[:8])}")
    if card.cache != "inplace":
        return GrowingMemory(session, card)
    provider = session.get_providers()[0]
    if provider not in _DEVICES:
        return InplaceMemory(session, card)
    from lsbuild_plugins.onnx.serve.kv_device import DeviceMemory  # only where there is a GPU

    number = int(session.get_provider_options()[provider].get("device_id", 0))
    return DeviceMemory(session, card, _DEVICES[provider], number)


def reuse(memory: Memory, prompt: Sequence[int]) -> int:
    """Keep the longest prefix that ``prompt`` shares with what is held, cut so that two tokens or more are read again.

    Returns the number of prompt tokens that need no work.
    """
    shared = 0
    for ours, theirs in zip(memory.held, prompt, strict=False):
        if ours != theirs:
            break
        shared += 1
    shared = max(0, min(shared, len(prompt) - 2)) // ALIGN * ALIGN
    memory.keep(shared)
    return shared


def chunks(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``start..end`` into pieces of ``size`` (a multiple of ALIGN); a last single token joins the piece before it."""
    while start < end:
        stop = min(end, start + size)
        if end - stop == 1:
            stop = end
        yield start, stop
        start = stop


def memory_shape(card: Decoder) -> tuple[int, ...]:
    """[layers, key and value, 1, heads, context, values of a head]."""
    return (card.layers, 2, 1, card.kv_heads, card.context, card.head_dim)


def memory_dtype(session: ort.InferenceSession) -> Any:
    """float32 or float16, as the graph takes its past."""
    return next(_DTYPES[value.type] for value in session.get_inputs() if value.name == "past_key_values.0.key")


class InplaceMemory:
    """Our own graphs: one buffer f32[layers,2,1,kv_heads,context,head_dim] that past and present both point to.

    Everything is bound once; a step changes three numbers in place and runs. Prompt chunks bind ids, rows and logits
    anew, and only when their shape changes. The buffer's pages are touched as the text grows, not before.
    """

    def __init__(self, session: ort.InferenceSession, card: Decoder) -> None:
        self.held: list[int] = []
        self._session = session
        self._vocab = card.vocab
        self._buffer = np.zeros(memory_shape(card), memory_dtype(session))
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._step = _Shape(self._bind_memory(), 1, 1, card.vocab)
        self._chunk = _Shape(self._bind_memory(), 2, 1, card.vocab)

    def run(self, tokens: Sequence[int], rows: slice) -> Logits:
        wanted = range(len(tokens))[rows]
        shape = self._step if len(tokens) == 1 and len(wanted) == 1 else self._chunk
        if (shape.ids.shape[1], len(shape.rows)) != (len(tokens), len(wanted)):
            shape = self._chunk = _Shape(shape.io, len(tokens), len(wanted), self._vocab)
        shape.ids[0] = tokens
        shape.rows[:] = wanted
        total = len(self.held) + len(tokens)
        self._last[0] = total - 1
        self._total[()] = total
        guard(lambda: self._session.run_with_iobinding(shape.io))
        self.held.extend(tokens)
        logits: Logits = shape.logits[0]
        return logits

    def keep(self, count: int) -> None:
        del self.held[count:]

    def _bind_memory(self) -> ort.IOBinding:
        io = self._session.io_binding()
        io.bind_input("seqlens_k", "cpu", 0, np.int32, self._last.shape, self._last.ctypes.data)
        io.bind_input("total_seq_len", "cpu", 0, np.int32, (), self._total.ctypes.data)
        for layer, pair in enumerate(self._buffer):
            for part, view in zip(("key", "value"), pair, strict=True):
                dtype, shape, pointer = view.dtype.type, view.shape, view.ctypes.data
                io.bind_input(f"past_key_values.{layer}.{part}", "cpu", 0, dtype, shape, pointer)
                io.bind_output(f"present.{layer}.{part}", "cpu", 0, dtype, shape, pointer)
        return io


class _Shape:
    """The arrays of one (S, R), bound to ``io``; they must live as long as the binding, which holds bare pointers."""

    def __init__(self, io: ort.IOBinding, length: int, rows: int, vocab: int) -> None:
        self.io = io
        self.ids = np.zeros((1, length), np.int64)
        self.rows = np.zeros(rows, np.int64)
        self.logits = np.zeros((1, rows, vocab), np.float32)
        io.bind_input("input_ids", "cpu", 0, np.int64, self.ids.shape, self.ids.ctypes.data)
        io.bind_input("logits_rows", "cpu", 0, np.int64, self.rows.shape, self.rows.ctypes.data)
        io.bind_output("logits", "cpu", 0, np.float32, self.logits.shape, self.logits.ctypes.data)


class GrowingMemory:
    """Graphs of the usual exporters: the past goes in, a longer present comes out; copies, but takes any such graph."""

    def __init__(self, session: ort.InferenceSession, card: Decoder) -> None:
        self.held: list[int] = []
        self._session = session
        self._inputs = card.inputs
        types = {value.name: value.type for value in session.get_inputs()}
        self._names = [f"{layer}.{part}" for layer in range(card.layers) for part in ("key", "value")]
        self._outputs = ["logits", *(f"present.{name}" for name in self._names)]
        empty = (1, card.kv_heads, 0, card.head_dim)
        self._past = [np.zeros(empty, _DTYPES[types[f"past_key_values.{name}"]]) for name in self._names]

    def run(self, tokens: Sequence[int], rows: slice) -> Logits:
        start, total = len(self.held), len(self.held) + len(tokens)
        known = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(start, total, dtype=np.int64)[None],
        }
        feeds = {name: known[name] for name in self._inputs}
        feeds.update((f"past_key_values.{name}", past) for name, past in zip(self._names, self._past, strict=True))
        logits, *present = guard(lambda: self._session.run(self._outputs, feeds))
        self._past = present
        self.held.extend(tokens)
        wanted: Logits = logits[0, rows].astype(np.float32, copy=False)
        return wanted

    def keep(self, count: int) -> None:
        if count < len(self.held):
            self._past = [np.ascontiguousarray(past[:, :, :count]) for past in self._past]
            del self.held[count:]


def guard(run: Any) -> Any:
    """Run the session; onnxruntime's failures (out of memory, a damaged graph) become a 503 with its reason."""
    try:
        return run()
    except Exception as error:
        raise ApiError(503, f"onnxruntime failed: {reason(error)}", type="server_error", code="model_failed") from error
