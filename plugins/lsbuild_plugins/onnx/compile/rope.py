"""Rotary position tables: reads both spellings of rope settings and computes cosines and sines; emits nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.safetensors import Floats


@dataclass(frozen=True, slots=True)
class Llama3:
    """Frequency scaling of Llama 3.1 and later: long wavelengths are stretched by ``factor``, short ones kept."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True, slots=True)
class Rope:
    """One table: base, a linear ``factor`` (1 = none) or Llama 3's scaling."""

    theta: float
    factor: float = 1.0
    llama3: Llama3 | None = None

    def frequencies(self, dim: int) -> Floats:
        """Inverse frequencies f32[dim / 2], in the float32 arithmetic of the reference implementations."""
        base = np.float32(1) / np.float32(self.theta) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
        base = (base / np.float32(self.factor)).astype(np.float32)
        return base if self.llama3 is None else _stretched(base, self.llama3)

    def table(self, positions: int, dim: int) -> tuple[Floats, Floats]:
        """Cosines and sines, each f32[positions, dim / 2]."""
        angles = np.outer(np.arange(positions, dtype=np.float32), self.frequencies(dim))
        return np.cos(angles), np.sin(angles)


def _stretched(base: Floats, scaling: Llama3) -> Floats:
    # As in transformers' modeling_rope_utils (Apache-2.0): three bands by wavelength, the middle one blended.
    waves = 2 * math.pi / base
    blend = (scaling.original / waves - scaling.low) / (scaling.high - scaling.low)
    middle = (1 - blend) * base / scaling.factor + blend * base
    scaled = np.where(waves > scaling.original / scaling.low, base / scaling.factor, middle)
    return np.where(waves < scaling.original / scaling.high, base, scaled).astype(np.float32)


def read_rope(config: Mapping[str, Any], layer_type: str, where: str) -> Rope:
    """The settings for one type of layer (``full_attention`` or ``sliding_attention``).

    transformers 5 writes ``rope_parameters``, flat or by layer type; older ones ``rope_theta`` and ``rope_scaling``,
    and Gemma 3 ``rope_local_base_freq`` for its sliding layers. SourceError for scalings we do not emit.
    """
    given = config.get("rope_parameters") or {}
    given = given.get(layer_type, given) if isinstance(given.get(layer_type, given), dict) else given
    if not given:
        local = config.get("rope_local_base_freq")
        if local is not None and layer_type == "sliding_attention":
            return Rope(float(local))
        given = {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
    theta = float(given.get("rope_theta", config.get("rope_theta", 10_000.0)))
    partial = given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial not in (None, 1, 1.0):
        raise _refused(f"partial rotary embedding (factor {partial})", where)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind in ("default", None):
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, float(given["factor"]))
    if kind == "llama3":
        bands = Llama3(
            float(given["factor"]),
            float(given["low_freq_factor"]),
            float(given["high_freq_factor"]),
            int(given["original_max_position_embeddings"]),
        )
        return Rope(theta, llama3=bands)
    raise _refused(f"rope scaling of type {kind!r}", where)


def _refused(what: str, where: str) -> SourceError:
    return SourceError(
        f"{what} is not supported",
        where=where,
        hint="Supported are plain, linear and llama3 scaling. Set `config: {export: true}` on the model to let lsbuild "
        "export it with optimum in an environment of its own.",
    )
