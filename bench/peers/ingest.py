"""Documents -> a searchable store with llama-index: ``ingest DOCUMENTS MODEL_FOLDER TOKENS OVERLAP OUT``.

SimpleDirectoryReader, SentenceSplitter that counts the model's own tokens, HuggingFaceEmbedding (sentence-transformers on
torch), the default vector store, persisted. Prints the number of passages.
"""

from __future__ import annotations

import json
import sys

from llama_index.core import SimpleDirectoryReader, VectorStoreIndex  # type: ignore[import-not-found]
from llama_index.core.node_parser import SentenceSplitter  # type: ignore[import-not-found]
from llama_index.embeddings.huggingface import HuggingFaceEmbedding  # type: ignore[import-not-found]
from transformers import AutoTokenizer


def main(documents: str, model: str, tokens: str, overlap: str, out: str) -> None:
    """Every library's own defaults, except for the size of passages."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    splitter = SentenceSplitter(
        chunk_size=int(tokens),
        chunk_overlap=int(overlap),
        tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False, verbose=False),
    )
    nodes = splitter.get_nodes_from_documents(SimpleDirectoryReader(documents, recursive=True).load_data())
    index = VectorStoreIndex(nodes, embed_model=HuggingFaceEmbedding(model_name=model, device="cpu"))
    index.storage_context.persist(persist_dir=out)
    print(json.dumps({"passages": len(nodes)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
