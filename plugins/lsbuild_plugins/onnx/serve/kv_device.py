"""The memory of keys and values on a GPU: it stays there, and only ids, positions and logits cross; as ``kv`` otherwise.

An input that a provider wants in its own memory is copied when it is bound, not when it is run: what changes from run to
run is bound anew each time, where the memory on the CPU changes arrays in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lsbuild_plugins.onnx.serve.format import Decoder
from lsbuild_plugins.onnx.serve.kv import Logits, guard, memory_dtype, memory_shape
from lsbuild_plugins.onnx.serve.ort import ort


class DeviceMemory:
    """Implements kv.Memory for our own graphs: one buffer on ``device`` that past and present both point to."""

    def __init__(self, session: ort.InferenceSession, card: Decoder, device: str, number: int = 0) -> None:
        self.held: list[int] = []
        self._session = session
        self._vocab = card.vocab
        self._number = number
        dtype = memory_dtype(session)
        # Zeros are copied there: what was left in that memory could be no numbers, which a mask does not hide.
        self._buffer = ort.OrtValue.ortvalue_from_numpy(np.zeros(memory_shape(card), dtype), device, number)
        self._io = session.io_binding()
        self._bind_memory(card, device, dtype)

    def run(self, tokens: Sequence[int], rows: slice) -> Logits:
        """See kv.Memory."""
        wanted = range(len(tokens))[rows]
        total = len(self.held) + len(tokens)
        logits = np.zeros((1, len(wanted), self._vocab), np.float32)
        io = self._io
        io.bind_cpu_input("input_ids", np.array([tokens], np.int64))
        io.bind_cpu_input("logits_rows", np.array(wanted, np.int64))
        io.bind_cpu_input("seqlens_k", np.array([total - 1], np.int32))
        io.bind_cpu_input("total_seq_len", np.array(total, np.int32))
        io.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        guard(self._run)
        self.held.extend(tokens)
        found: Logits = logits[0]
        return found

    def keep(self, count: int) -> None:
        """See kv.Memory."""
        del self.held[count:]

    def _run(self) -> None:
        self._session.run_with_iobinding(self._io)
        self._io.synchronize_outputs()

    def _bind_memory(self, card: Decoder, device: str, dtype: type[np.generic]) -> None:
        shape = memory_shape(card)[2:]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        at = self._buffer.data_ptr()
        for layer in range(card.layers):
            for part in ("key", "value"):
                self._io.bind_input(f"past_key_values.{layer}.{part}", device, self._number, dtype, shape, at)
                self._io.bind_output(f"present.{layer}.{part}", device, self._number, dtype, shape, at)
                at += size
