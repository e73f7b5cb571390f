"""What a model thinks is divided from what it says, at every split."""

from __future__ import annotations

import pytest

from lsbuild_plugins.onnx.serve.forms import THINK
from lsbuild_plugins.onnx.serve.reasoning import ReasoningParser


@pytest.mark.parametrize(
    ("text", "begun", "thought", "answer"),
    [
        ("<think>\nwell\n</think>\n\nyes", False, "well", "yes"),
        (" <think>a <b> </th</think>c </think> d", False, "a <b> </th", "c </think> d"),
        ("plain <think>x</think>", False, "", "plain <think>x</think>"),
        ("well </think> yes ", True, "well", "yes "),
        ("\nnever ends ", True, "never ends", ""),
        ("<think>", False, "", ""),
        ("<thin", False, "", "<thin"),
        ("<think></think>", False, "", ""),
        (" ", False, "", " "),
        ("", True, "", ""),
    ],
)
def test_every_split_gives_the_same(text: str, begun: bool, thought: str, answer: str) -> None:
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            parser = ReasoningParser(THINK, begun=begun)
            read = [
                *(parser.feed(piece) for piece in (text[:first], text[first:second], text[second:])),
                parser.finish(),
            ]
            assert ("".join(each[0] for each in read), "".join(each[1] for each in read)) == (thought, answer)
