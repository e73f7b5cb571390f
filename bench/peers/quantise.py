"""llama.cpp's way from a checkpoint to a quantised file: gguf-py writes F16, libllama quantises. ``quantise FOLDER OUT FORMAT``.

The file has no vocabulary: prompts are token ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found]
import llama_cpp
import numpy as np

from bench.lines import peak_mb

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FORMATS = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}


def gguf_name(name: str) -> str:
    """The name of a transformers tensor in a GGUF file of architecture ``llama``."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def interleave_heads(weight: Any, heads: int) -> Any:
    """Rotary pairs side by side, as llama.cpp wants them (llama.cpp's convert_hf_to_gguf.py, LlamaModel.permute)."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_f16(folder: Path, out: Path) -> None:
    """``config.json`` and a bfloat16 ``model.safetensors`` as an F16 GGUF file; vectors stay float32."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(out), "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    path = folder / "model.safetensors"
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    raw = np.memmap(path, np.uint8, "r", 8 + length)
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        bits = raw[start:end].view(np.uint16).astype(np.uint32) << 16
        value = bits.view(np.float32).reshape(entry["shape"])
        part = name.split(".")[-2]
        value = interleave_heads(value, heads[part]) if part in heads else value
        writer.add_tensor(gguf_name(name), value if value.ndim == 1 else value.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source: Path, out: Path, form: str) -> None:
    """libllama's own quantiser, one thread."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FORMATS[form]
    params.nthread = 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params):
        raise SystemExit(f"libllama could not quantise {source}")


def main(folder: str, out: str, form: str) -> None:
    """Write ``out`` in ``form``; the F16 file between is removed."""
    between = Path(out).with_suffix(".f16.gguf")
    write_f16(Path(folder), between)
    quantise(between, Path(out), form)
    between.unlink()
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
