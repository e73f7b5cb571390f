"""The step: from examples to how much likelier each word is in a category than in harmless texts (naive Bayes)."""

import json
import math
import re
from collections import Counter, defaultdict

from lsbuild.api import StepError


def run(context):
    (file,) = context.sources["examples"].files
    counts = defaultdict(Counter, ok=Counter())
    for number, line in enumerate(file.location.read_text("utf-8").splitlines(), 1):
        try:
            example = json.loads(line)
            counts[example["category"]].update(re.findall(r"\w+", example["text"].lower()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StepError("is no example with text and category", where=f"{file.path}:{number}") from error
    words = sorted(set().union(*counts.values()))
    shares = {}
    for name, count in sorted(counts.items()):  # each word counts half a time more than it was seen (Jeffreys' prior)
        shares[name] = {word: (count[word] + 0.5) / (count.total() + len(words) / 2) for word in words}
    harmless = shares.pop("ok")
    weights = {name: {word: math.log(share[word] / harmless[word]) for word in words} for name, share in shares.items()}
    (context.out / "weights.json").write_text(json.dumps(weights), "utf-8")
    return {"categories": len(weights), "words": len(words)}
