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
from onnx_compile_oracle import decoder

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


MORE = {
    "untied": DECODERS["llama"] | {"tie_word_embeddings": False},
    "every head its own keys": DECODERS["llama"] | {"num_key_value_heads": 4},
}


@pytest.mark.parametrize("name", [*DECODERS, *MORE])
def test_float_graph_equals_plain_numpy(name: str, tmp_path: Path, build: Build) -> None:
    config = (DECODERS | MORE)[name]
    tensors = decoder_tensors(config)
    out, _ = build(write_checkpoint(tmp_path / "m", config, tensors), type="llm", quantize="none")
    found = _whole(out)
    for row, ids in enumerate(IDS.tolist()):
        assert np.abs(found[row] - decoder(tensors, config, ids)).max() < 1e-3


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


def test_default_is_int4_with_an_8_bit_head(tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    out, facts = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm")
    nodes = {node.name: node for node in onnx.load(out / "model.onnx", load_external_data=False).graph.node}
    bits = {name: {a.name: a.i for a in node.attribute}.get("bits") for name, node in nodes.items()}
    assert bits["layers.0.attention.qkv"] == bits["layers.1.mlp.gate_up"] == 4
    assert bits["logits"] == bits["embedding"] == 8
    assert facts["quantize"] == "int4"


@pytest.mark.parametrize("quantize", ["int4", "none"])
def test_a_tied_head_shares_the_bytes_of_the_embedding(quantize: str, tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    out, _ = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm", quantize=quantize)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}.get("offset")
        for tensor in onnx.load(out / "model.onnx", load_external_data=False).graph.initializer
    }
    assert places["embedding.weight"] == places["logits.weight"] is not None


@pytest.mark.parametrize("width", [48, 40])
def test_widths_that_no_large_block_divides(width: int, tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"] | {"hidden_size": width, "head_dim": 16}
    _, facts = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm", quantize="int8")
    assert facts["kl_nats"] < 0.05


def test_same_checkpoint_gives_the_same_bytes(tmp_path: Path, build: Build) -> None:
    config = DECODERS["gemma3_text"]
    checkpoint = write_checkpoint(tmp_path / "m", config, decoder_tensors(config))
    first, _ = build(checkpoint, type="llm")
    second, _ = build(checkpoint, type="llm")
    names = sorted(path.name for path in first.iterdir())
    assert names == ["model.data", "model.json", "model.onnx", "tokenizer.json"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_card_and_tokenizer(tmp_path: Path, build: Build) -> None:
    config = DECODERS["mistral"]
    checkpoint = write_checkpoint(tmp_path / "m", config, decoder_tensors(config))
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [7, 1], "temperature": 0.6, "top_k": 20}')
    out, facts = build(checkpoint, type="llm", context=100)
    assert model_format.read(out) == model_format.Decoder(
        layers=2, kv_heads=2, head_dim=32, vocab=128, context=100, eos=(1, 7), bos=0, bos_text="<s>", eos_text="</s>",
        sampling={"temperature": 0.6, "top_k": 20.0},
    )  # fmt: skip
    assert '"truncation":null' in (out / "tokenizer.json").read_text(encoding="utf-8")
    assert facts["kv_bytes_per_token"] == 2 * 2 * 2 * 32 * 4


def test_a_short_context(tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    out, facts = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm", context=16)
    assert facts["context_length"] == 16 and facts["tokens"] == 128
    assert InPlace(out, 1, 16).run(IDS[:1, :16], [16], [15]).shape == (1, 1, 128)


def test_a_model_that_does_not_sample_says_so(tmp_path: Path, build: Build) -> None:
    config = DECODERS["llama"]
    checkpoint = write_checkpoint(tmp_path / "m", config, decoder_tensors(config))
    (checkpoint / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.7}')
    card = model_format.read(build(checkpoint, type="llm")[0])
    assert isinstance(card, model_format.Decoder) and card.sampling == {"temperature": 0.0}


def test_the_serve_half_opens_what_was_compiled(tmp_path: Path, build: Build) -> None:
    from lsbuild_plugins.onnx.serve.engine import open_engine
    from lsbuild_runtime.http import Context
    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Completion, Sampling

    config = DECODERS["qwen3"]
    out, _ = build(write_checkpoint(tmp_path / "m", config, decoder_tensors(config)), type="llm")
    service = Service(api="inference", name="m", provider="inline::onnx", entry="", path=out.name)
    engine = open_engine(service, out.parent, None)  # type: ignore[arg-type]
    deltas = list(engine.complete(Completion("the a of", Sampling(temperature=0.0, max_tokens=5)), Context()))
    usage = deltas[-1].usage
    assert usage is not None and usage.prompt == 3 and 1 <= usage.completion <= 5
