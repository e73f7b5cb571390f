"""The serve half: weighs the words of a text. It ships in the artifact and knows the runtime, never lsbuild."""

import math
import re

import msgspec

from lsbuild_runtime.safety import Category
from lsbuild_runtime.safety.judged import Judged, Mark, Settings


class Bayes:
    def __init__(self, weights):
        self._weights = weights

    def categories(self):
        return tuple(Category(name) for name in self._weights)

    def judge(self, text, where, context):
        words = re.findall(r"\w+", text.lower())
        sums = {name: sum(known.get(word, 0.0) for word in words) for name, known in self._weights.items()}
        return [Mark(name, 0.5 + math.tanh(total / 2) / 2, found=total > 0) for name, total in sums.items()]


def open_shield(service, root, host):
    weights = msgspec.json.decode((root / service.path / "weights.json").read_bytes())
    return Judged(service.name, Bayes(weights), Settings())
