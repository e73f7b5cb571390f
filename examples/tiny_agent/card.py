"""Write the model card: what the model is for, what it was made of, and what was measured; it reads and never computes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

TEXT = """---
license: apache-2.0
language: en
pipeline_tag: text-generation
---

# A tiny agent model

A Llama of {parameters:.2f} million parameters, made from nothing on two processor cores in about two hours, so that an example agent
can be built, shipped and tested without a download. It quotes the passage that answers a question, says when none does, and calls
the tools it is told about. It is a demonstration: it knows no facts, cannot reason, and reads English only.

## Prompt

Passages first, then an empty line, then the question, all in the user's message; the chat template does the rest.

```
[1] First sentence of passage one. Second sentence.
[2] Guide > Install
First sentence of passage two.

How do I set the port?
```

Answers: `According to [2]: <sentence>`, or `I don't know. The passages do not say.`, or
`I cannot answer that: I was given no passage and no tool for it.`, or a `<tool_call>`; after a result, `The result is 537.5.`,
`The price is 12 and the city is Rome.`, `The tool says: <text>.` or `The tool failed: <reason>.`

## Measured

Greedy decoding of this folder through transformers in fp32; exact string match. `real`: whole documents never trained on; questions are
templates filled with words of the target sentence. `invented`: facts made by the same templates as in training, filled anew, as are the `call` and `final` rows.
`hand-written`: nothing of it was generated; the hardest and the truest row. With n = 60 one standard error is up to .065, with n = 26 up to .10.

| cell | n | exact | number right | verbatim | false refusal |
|---|---|---|---|---|---|
{rows}
`number right`: the citation names the right passage. `verbatim`: the quoted text stands in the prompt. Cells starting with `refuse` hold
questions that no passage answers.

## Made of

Text: sentences of the documentation and docstrings below, 5 % of sentences and every 33rd document held out; questions, tools, calls and
results are generated. No other model and no other data set was used.

{sources}
## Training

{training}

## Limits

- Finds a sentence by its words: synonyms and questions that share no word with their answer are refused or missed.
- Copies can slip, most in long sentences, in repeated digits, and between sentences that begin alike. Check that a quote stands in its
  passage before showing it; constrain tool calls with a grammar where you can.
- Trained on 1 to 3 passages of 1 to 4 sentences (a few of 6), under 640 tokens; nothing beyond that was measured.
- Choosing among several tools, and copying every field of a call: see the table, a third to a half of such calls has a fault.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("training", type=Path, help="a paragraph on how it was trained")
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    rows = ""
    for cell, row in json.loads(options.evaluation.read_text())["cells"].items():
        shown = [f"{row[k]:.2f}" if k in row else "" for k in ("exact", "number right", "verbatim", "false refusal")]
        rows += f"| {cell} | {row['n']:.0f} | {' | '.join(shown)} |\n"
    header = (options.model / "model.safetensors").read_bytes()
    size = int.from_bytes(header[:8], "little")
    tensors = json.loads(header[8 : 8 + size])
    count = sum(
        (t["data_offsets"][1] - t["data_offsets"][0]) // 2 for name, t in tensors.items() if name != "__metadata__"
    )
    text = TEXT.format(
        parameters=count / 1e6,
        rows=rows,
        sources=options.sources.read_text(),
        training=options.training.read_text().strip(),
    )
    (options.model / "README.md").write_text(text)


if __name__ == "__main__":
    main()
