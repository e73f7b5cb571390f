"""Round-to-nearest block quantisation to 4 or 8 bits, a chunk of rows at a time; pure arithmetic, no files.

Format: what MatMulNBits and GatherBlockQuantized read without zero points. Each block of ``block`` values along a row
has one float32 scale; a value is ``(q - 2**(bits-1)) * scale``; in 4 bits the low nibble comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lsbuild_plugins.onnx.compile.safetensors import Floats, Matrix

Bytes = NDArray[np.uint8]
_CHUNK = 1 << 18
"""Values per chunk: 1 MB of float32, so that the temporaries stay in the processor's cache."""


def quantise(values: Floats, bits: int, block: int) -> tuple[Bytes, Floats]:
    """Quantise rows.

    The scale is the signed element of largest magnitude over ``-2**(bits-1)``: that element is hit exactly and the
    whole range of codes is used, where a symmetric scale loses one code (the rule of llama.cpp's Q4_0).

    Args:
        values: f32[N, K], K a multiple of ``block``.
        bits: 4 or 8.

    Returns:
        codes u8[N, K*bits/8] and scales f32[N, K/block]. A block of zeros has scale 0.
    """
    rows, width = values.shape
    blocks = values.reshape(rows * width // block, block)
    top, low = _fold(np.maximum, blocks), _fold(np.minimum, blocks)
    half = 1 << (bits - 1)
    scales = np.where(top >= -low, top, low) * np.float32(-1.0 / half)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = np.where(np.abs(scales) > np.finfo(np.float32).tiny, np.float32(1) / scales, np.float32(0))
        steps = blocks * inverse[:, None]
        steps += np.float32(half + 0.5)  # truncation then rounds to nearest
        np.minimum(steps, np.float32(2 * half - 1), out=steps)
        codes = steps.astype(np.uint8).reshape(rows, width)
    return (_pack(codes) if bits == 4 else codes), scales.reshape(rows, width // block)


def _fold(pick: np.ufunc, blocks: Floats) -> Floats:
    """``pick.reduce`` along each block. Two halvings and a transpose keep numpy's inner loops long: twice as fast."""
    for _ in range(2):
        half = blocks.shape[1] // 2
        blocks = pick(blocks[:, :half], blocks[:, half:])
    result: Floats = pick.reduce(np.ascontiguousarray(blocks.T), axis=0)
    return result


def _pack(codes: Bytes) -> Bytes:
    """Two 4-bit codes per byte, the first in the low nibble."""
    pairs = codes.view("<u2")
    packed: Bytes = (pairs | (pairs >> 4)).astype(np.uint8)
    return packed


def dequantise(codes: Bytes, scales: Floats, bits: int, block: int) -> Floats:
    """The values that the runtime computes with: f32[N, K]."""
    if bits == 4:
        codes = np.stack((codes & 15, codes >> 4), axis=-1).reshape(codes.shape[0], -1)
    signed = codes.astype(np.float32) - np.float32(1 << (bits - 1))
    return (signed.reshape(*scales.shape, block) * scales[:, :, None]).reshape(codes.shape)


def per_column(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 with one scale for each output, for DynamicQuantizeMatMul.

    Args:
        values: f32[N, K], as a checkpoint stores a linear layer.

    Returns:
        weight i8[K, N] (transposed) and scales f32[N].
    """
    scales = np.maximum(np.abs(values).max(axis=1), np.finfo(np.float32).tiny) / np.float32(127)
    return np.rint(values / scales[:, None]).astype(np.int8).T.copy(), scales


def block_for(width: int, wanted: int) -> int:
    """The largest block not above ``wanted`` that divides ``width``, or 0 when not even 16 does."""
    return next((size for size in (128, 64, 32, 16) if size <= wanted and width % size == 0), 0)


def chunks(matrix: Matrix) -> Iterator[Floats]:
    """The rows of ``matrix`` in pieces of about one megabyte."""
    count, width = matrix.shape[0], int(np.prod(matrix.shape[1:]))
    step = max(1, _CHUNK // max(1, width))
    for start in range(0, count, step):
        yield matrix.rows(start, min(start + step, count))
