"""Run by a Python that has torch and transformers: ``torch_reference.py ROOT`` answers every model folder below ROOT.

For each it writes ``expected.npy`` (logits of a decoder or a classifier, or the unit-length mean and first-token vectors) and
``saved/``, the same model as transformers writes it, so that both spellings of config.json are tested.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

DECODERS = {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text"}


def answer(folder: Path) -> None:
    """One model."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    judges = (folder / "types.npy").exists()
    auto = AutoModelForCausalLM if kind in DECODERS else AutoModelForSequenceClassification if judges else AutoModel
    settings = {} if kind in (*DECODERS, "distilbert", "deberta-v2") or judges else {"add_pooling_layer": False}
    model, loading = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **settings
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"], (kind, loading)
    model.eval()
    ids = torch.from_numpy(np.load(folder / "ids.npy"))
    with torch.no_grad():
        if kind in DECODERS:
            expected = model(input_ids=ids, use_cache=False).logits
        elif judges:
            types = torch.from_numpy(np.load(folder / "types.npy"))
            typed = {"token_type_ids": types} if model.config.to_dict().get("type_vocab_size", 0) > 1 else {}
            expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), **typed).logits
        else:
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            both = torch.stack((hidden.mean(1), hidden[:, 0]))
            expected = both / both.norm(dim=-1, keepdim=True)
    np.save(folder / "expected.npy", expected.numpy())
    model.save_pretrained(folder / "saved")


def main() -> None:
    """Answer all of them in one process: starting torch costs more than these models do."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for config in sorted(Path(sys.argv[1]).glob("*/config.json")):
        answer(config.parent)


if __name__ == "__main__":
    main()
