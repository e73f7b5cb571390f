"""Decoder graphs: right against plain numpy, the same stepwise as at once, the same bytes twice, and every format runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.serve import format as model_format
from onnx_compile_models import DECODERS, decoder_tensors, write_checkpoint
from onnx_compile_oracle import llama

Build = Callable[..., tuple[Path, dict[str, Any]]]
IDS = np.random.default_rng(1).integers(3, 128, (2, 24))


class InPlace:
    """Runs a decoder as the artifact does: one memory for past and present, bound once."""

    def __init__(self, out: Path, batch: int, memory: int = 64) -> None:
        card = model_format.read(out)
        assert isinstance(card, model_format.Decoder)
        self.session = gate.open_graph(out / "model.onnx")
        self.memory = np.zeros((card.layers, 2, batch, card.kv_heads, memory, card.head_dim), np.float32)

    def run(self, ids: NDArray[np.int64], lengths: list[int], rows: list[int]) -> NDArray[np.float32]:
        """Append ``ids`` so that the rows then hold ``lengths`` tokens; logits of ``rows``."""
        io = self.session.io_binding()
        fed = {  # bindings hold pointers: these arrays have to live until the run is over
            "input_ids": np.ascontiguousarray(ids),
            "seqlens_k": np.array(lengths, np.int32) - np.int32(1),
            "total_seq_len": np.array(max(lengths), np.int32),
            "logits_rows": np.array(rows, np.int64),
        }
        for name, value in fed.items():
            io.bind_cpu_input(name, value)
        for layer, pair in enumerate(self.memory):
            for part, view in zip(("key", "value"), pair, strict=True):
                place = ("cpu", 0, np.float32, view.shape, view.ctypes.data)
                io.bind_input(f"past_key_values.{layer}.{part}", *place)
                io.bind_output(f"present.{layer}.{part}", *place)
        io.bind_output("logits")
        self.session.run_with_iobinding(io)
        found: NDArray[np.float32] = io.copy_outputs_to_cpu()[-1]  # bound last
        return found


def _whole(out: Path, ids: NDArray[np.int64] = IDS) -> NDArray[np.float32]:
    card = model_format.read(out)
    assert isinstance(card, model_format.Decoder)
    return gate.logits(gate.open_graph(out / "model.onnx"), ids, card.layers, (card.kv_heads, card.head_dim))


@pytest.mark.parametrize("name", ["llama", "untied", "every head its own keys"])
def test_float_llama_equals_plain_numpy(name: str, tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"] | {"tie_word_embeddings": name != "untied"}
    if name.startswith("every"):
        config |= {"num_key_value_heads": config["num_attention_heads"]}
    tensors = decoder_tensors(config)
    out, _ = build(write_checkpoint(tmp_path / "m", config, tensors), type="llm", quantize="none")
    found = _whole(out)
    for row, ids in enumerate(IDS.tolist()):
        assert np.abs(found[row] - llama(tensors, config, ids)).max() < 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_stepwise_in_place_equals_one_run(name: str, tmp_path: Path, build: Build) -> None:
    out, _ = build(
        write_checkpoint(tmp_path / "m", DECODERS[name], decoder_tensors(DECODERS[name])), type="llm", quantize="none"
    )
    whole, steps = _whole(out), InPlace(out, 2)
    prefill = steps.run(IDS[:, :10], [10, 10], [0, 9])
    assert np.abs(prefill - whole[:, [0, 9]]).max() < 1e-4
    for at in range(10, IDS.shape[1]):
        assert np.abs(steps.run(IDS[:, at : at + 1], [at + 1, at + 1], [0])[:, 0] - whole[:, at]).max() < 1e-4


def test_rows_of_different_length_share_a_run(tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    out, _ = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm", quantize="none")
    together = InPlace(out, 2)
    for row, length in ((0, 5), (1, 11)):
        alone = InPlace(out, 1)
        alone.run(IDS[row : row + 1, :length], [length], [length - 1])
        together.memory[:, :, row] = alone.memory[:, :, 0]
    found = together.run(IDS[[0, 1], [5, 11]][:, None], [6, 12], [0])[:, 0]
    whole = _whole(out)
    assert np.abs(found[0] - whole[0, 5]).max() < 1e-4
    assert np.abs(found[1] - whole[1, 11]).max() < 1e-4


def test_rejected_tokens_leave_no_trace(tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    out, _ = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm", quantize="none")
    clean, tried = InPlace(out, 1), InPlace(out, 1)
    for runner in (clean, tried):
        runner.run(IDS[:1, :8], [8], [7])
    tried.run(IDS[1:, 9:13], [12], [0])
    assert (clean.run(IDS[:1, 8:10], [10], [0, 1]) == tried.run(IDS[:1, 8:10], [10], [0, 1])).all()


@pytest.mark.parametrize("quantize", ["int4", "int8"])
@pytest.mark.parametrize("name", DECODERS)
def test_quantised_families_pass_the_gate(name: str, quantize: str, tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", DECODERS[name], decoder_tensors(DECODERS[name], spread=0.1), "BF16")
    out, facts = build(checkpoint, type="llm", quantize=quantize)
    assert facts["quantize"] == quantize and facts["tokens"] >= 64
    assert facts["kl_nats"] < (0.5 if quantize == "int4" else 0.005)
    graph = onnx.load(out / "model.onnx", load_external_data=False).graph
    assert not {node.op_type for node in graph.node} & {"MatMul", "FusedMatMul"}
