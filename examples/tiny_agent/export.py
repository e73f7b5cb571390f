"""Write a checkpoint as a Hugging Face folder: config, half-precision weights, tokenizer, chat template and generation config."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from network import Network, Shape
from safetensors.torch import save_file
from tokenizer import CALL, CALL_END, END, PAD, START
from tokenizers import Tokenizer

POSITIONS = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--out", type=Path, default=Path("model"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    shape = Shape(vocabulary=tokenizer.get_vocab_size())
    network = Network(shape)
    network.load_state_dict(torch.load(options.checkpoint, weights_only=False)["network"], strict=False)
    end, pad, start = (tokenizer.token_to_id(t) for t in (END, PAD, START))
    save_file(
        {k: v.half().contiguous() for k, v in network.state_dict().items() if "probes" not in k},
        options.out / "model.safetensors",
        {"format": "pt"},
    )
    write(
        options.out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.width,
            "intermediate_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.groups,
            "head_dim": shape.head,
            "hidden_act": "silu",
            "max_position_embeddings": POSITIONS,
            "rms_norm_eps": 1e-5,
            "rope_theta": shape.theta,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "initializer_range": 0.02,
            "use_cache": True,
            "torch_dtype": "float16",
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
    )
    write(
        options.out / "generation_config.json",
        {
            "do_sample": False,
            "max_new_tokens": 160,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
    )
    write(
        options.out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": POSITIONS,
            "bos_token": START,
            "eos_token": END,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "additional_special_tokens": [START, END],
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(t)): {
                    "content": t,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": t not in (CALL, CALL_END),
                }
                for t in (PAD, START, END, CALL, CALL_END)
            },
            "chat_template": Path(__file__).with_name("chat_template.jinja").read_text().strip("\n"),
        },
    )
    shutil.copy(options.tokenizer, options.out / "tokenizer.json")


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
