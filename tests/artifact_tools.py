"""The command line as a process and small real inputs, for the tests that build and boot artifacts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from onnx_compile_models import write_safetensors

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart" / "spec.yaml"


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


class Lsbuild:
    """``lsbuild`` in a process of its own; no word of it may ever be a traceback."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def __call__(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        seconds: float = 600,
    ) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "lsbuild", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "LSBUILD_CACHE": str(self.cache), **(environ or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


_FETCHED = ("deb:", "pypi:", "wheels:")


def compiled(lsbuild: Lsbuild, spec: Path, out: Path, *, seconds: float = 600) -> Path:
    """``spec`` compiled for this host at ``out``; the test is skipped when a package cannot be had here.

    A spec without a lock gets the wheels that the last run resolved: asking an index for them takes up to a minute.
    """
    lock, kept = spec.with_name("lsbuild.lock"), lsbuild.cache / "wheels.lock"
    if not lock.exists() and kept.exists():
        shutil.copyfile(kept, lock)
    done = lsbuild(spec, "-o", out, "--json", seconds=seconds)
    if done.code == 3 and any(scheme in done.out for scheme in _FETCHED):
        pytest.skip(f"a package index or archive is out of reach, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    _keep(lock, kept)
    return out


VECTORS = """\
version: 1
name: vectors
models:
  remote:
    type: embedding
    provider: "remote::openai"
    dimensions: 8
    config: {base_url: "${env.UPSTREAM:=http://127.0.0.1:9/v1}"}
"""
"""A distribution without models: it embeds with a server elsewhere, which the variable UPSTREAM may name at start."""


def packed(lsbuild: Lsbuild, folder: Path, target: str, options: str, *, seconds: float = 600) -> Path:
    """VECTORS for a target with ``options`` (a flow map); skips where Debian packages or wheels cannot be had."""
    (folder / "spec.yaml").write_text(f"{VECTORS}targets:\n  {target}: {options}\n")
    done = lsbuild("build", folder / "spec.yaml", "--target", target, "-o", folder / "art", "--json", seconds=seconds)
    if done.code == 3:
        pytest.skip(f"no Debian mirror or package index, and nothing cached: {done.json['error']['message']}")
    assert done.code == 0, done.out + done.err
    return folder / "art"


def proved(lsbuild: Lsbuild, artifact: Path, *, seconds: float = 600, **environ: str) -> dict[str, dict[str, str]]:
    """The checks of ``lsbuild verify``, by name; none of them failed."""
    done = lsbuild("verify", artifact, "--json", environ=environ, seconds=seconds)
    checks = done.json["checks"]
    assert done.code == 0, [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
    return {check["name"]: check for check in checks}


def skip_unbooted(boot: Mapping[str, str]) -> None:
    """Skip with its reason when the artifact was not booted here."""
    if boot["state"] == "skipped":
        pytest.skip(boot["detail"])


def _keep(lock: Path, kept: Path) -> None:
    """Add the wheels of ``lock`` to those that are kept; nothing else of it, which belongs to one test."""
    both = [json.loads(path.read_text()) for path in (kept, lock) if path.exists()]
    wheels = {uri: entry for each in both for uri, entry in each["sources"].items() if uri.startswith("wheels:")}
    new = kept.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({**both[-1], "sources": wheels}))
    new.replace(kept)


@contextmanager
def booted(
    artifact: Path,
    *words: str | Path,
    environ: Mapping[str, str] | None = None,
    log: int | IO[str] = subprocess.DEVNULL,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of the artifact's own ``run``, which gets ``end`` at the end; SIGTERM has to end it well."""
    process = subprocess.Popen(
        [artifact / "run", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield line[line.index("http://") :].split()[0]
    finally:
        process.send_signal(end)
        code = process.wait(30)
        process.stdout.close()
    assert code == (0 if end == signal.SIGTERM else -end)


def post(url: str, body: object) -> Any:
    """POST JSON, answer JSON; an HTTP error raises."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def write_llama(folder: Path, *, architecture: str = "LlamaForCausalLM", model_type: str = "llama") -> Path:
    """A two-layer Llama checkpoint with random weights and a tokenizer of bytes, as a hub would give it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True)
    hidden, ffn, heads, kv, vocab = 64, 128, 4, 2, 257
    shapes = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (hidden * kv // heads, hidden),
        "self_attn.v_proj.weight": (hidden * kv // heads, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (ffn, hidden),
        "mlp.up_proj.weight": (ffn, hidden),
        "mlp.down_proj.weight": (hidden, ffn),
    }
    random = np.random.default_rng(7)
    tensors = {
        "model.embed_tokens.weight": random.normal(0, 0.1, (vocab, hidden)),
        "model.norm.weight": np.ones(hidden),
    }
    for layer in range(2):
        for name, shape in shapes.items():
            value = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.1, shape)
            tensors[f"model.layers.{layer}.{name}"] = value
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "eos_token_id": 256,
    }
    (folder / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|end|>"}))
    return folder
