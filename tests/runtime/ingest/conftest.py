"""What the tests of the chunker share: a folder with a tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_tokenizer import save_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model, as far as the chunker looks."""
    return save_tokenizer(tmp_path / "model")
