"""Generates with our engine behind its ``Inference`` port, sampler and detokeniser included: ``decode FOLDER THREADS``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from bench.lines import Stopwatch, peak_mb, serve
from lsbuild_plugins.onnx.serve.engine import Engine, open_engine
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Completion, Delta, Sampling


class NoHost:
    """A model asks its host for nothing."""

    def get(self, api: str, name: str) -> NoReturn:
        """Nothing is there to be asked for."""
        raise LookupError(f"{api}/{name}")


def generation(engine: Engine, prompt: list[int], tokens: int) -> Iterator[Delta]:
    """Greedy, ``tokens`` after the first one."""
    sampling = Sampling(temperature=0.0, max_tokens=tokens + 1)
    return iter(engine.complete(Completion(tuple(prompt), sampling), Context()))


def measure(engine: Engine, prompt: list[int], tokens: int) -> dict[str, Any]:
    """Seconds to the first token, and for ``tokens`` more; the end-of-text token must not come first."""
    deltas = generation(engine, prompt, tokens)
    watch = Stopwatch()
    text = [next(deltas).text]
    prefill = watch.read()
    last = None
    for delta in deltas:
        text.append(delta.text)
        last = delta
    total = watch.read()
    made = last.usage.completion if last and last.usage else 0
    if made != tokens + 1:
        raise SystemExit(f"the answer ended after {made} tokens instead of {tokens + 1}: choose another prompt")
    return {
        "prefill_s": prefill[0],
        "prefill_cpu_s": prefill[1],
        "decode_s": total[0] - prefill[0],
        "decode_cpu_s": total[1] - prefill[1],
        "peak_mb": peak_mb(),
        "text": "".join(text),
    }


def main(folder: str, threads: str) -> None:
    """Open the engine, then answer requests ``{"prompt": [...], "tokens": n}``."""
    service = Service(
        api="inference", name="chat", provider="inline::onnx", entry="", path=Path(folder).name,
        config={"threads": int(threads)},
    )  # fmt: skip
    engine = open_engine(service, Path(folder).parent, NoHost())
    serve(lambda request: measure(engine, request["prompt"], request["tokens"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
