"""Generates with libllama through llama-cpp-python's low-level bindings, greedily: ``decode FILE.gguf THREADS CONTEXT``."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llama_cpp as lib
import numpy as np

from bench.lines import Stopwatch, peak_mb, serve


class Llama:
    """One model and one context; every request starts from an empty key-value memory."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, 512, 512
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise SystemExit(f"libllama could not open {path}")
        self._vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))

    def clear(self) -> None:
        """Forget everything read so far."""
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)

    def step(self, ids: list[int]) -> int:
        """Append ``ids`` and return the most probable next token."""
        array = (ctypes.c_int32 * len(ids))(*ids)
        if lib.llama_decode(self._context, lib.llama_batch_get_one(array, len(ids))):
            raise SystemExit("llama_decode failed")
        pointer = lib.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self._vocab,))
        return int(logits.argmax())


def measure(llama: Llama, prompt: list[int], tokens: int) -> dict[str, Any]:
    """Seconds to the first token, and for ``tokens`` more."""
    llama.clear()
    watch = Stopwatch()
    made = [llama.step(prompt)]
    prefill = watch.read()
    for _ in range(tokens):
        made.append(llama.step(made[-1:]))
    total = watch.read()
    return {
        "prefill_s": prefill[0],
        "prefill_cpu_s": prefill[1],
        "decode_s": total[0] - prefill[0],
        "decode_cpu_s": total[1] - prefill[1],
        "peak_mb": peak_mb(),
        "ids": made,
    }


def main(path: str, threads: str, context: str) -> None:
    """Open the model, then answer requests ``{"prompt": [...], "tokens": n}``."""
    llama = Llama(path, int(threads), int(context))
    system = lib.llama_print_system_info().decode()
    serve(lambda request: measure(llama, request["prompt"], request["tokens"]), system=system)


if __name__ == "__main__":
    main(*sys.argv[1:])
