"""Makes the vectors that ``peers.search`` loads: ``vectors MODEL_FOLDER PASSAGES.json`` writes ``PASSAGES.npy``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

if __name__ == "__main__":
    passages = Path(sys.argv[2])
    model = SentenceTransformer(sys.argv[1], device="cpu")
    np.save(passages.with_suffix(".npy"), model.encode(json.loads(passages.read_text()), normalize_embeddings=True))
