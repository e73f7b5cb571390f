"""The search that a run begins with: a call of file_search with the user's question, which no model has to think of.

The loop makes it as any other call: decided, told in events, kept. What it finds reaches the model in the agent's own form,
before the question, and the model is not offered the search again: this is for models too small to search for themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from lsbuild_runtime.agents.grounding import Grounding, Passage, last_user
from lsbuild_runtime.agents.runs import CallEnded, Event, Task
from lsbuild_runtime.http import Context
from lsbuild_runtime.ids import new_id
from lsbuild_runtime.ports import Chat, Completion, Delta, Inference, ToolCall
from lsbuild_runtime.tools import Found

Message = Mapping[str, Any]


class Opening:
    """Implements ports.Inference over the model of one run; ``task`` is that run's, with its first call.

    A run that goes on after its search (it was cut, or a client has run a function) makes no second one.
    """

    def __init__(self, grounding: Grounding, model: Inference, task: Task, search: str) -> None:
        place = last_user(task.chat.messages)
        question = task.chat.messages[place].get("content")
        self.question = question if isinstance(question, str) else ""
        self._grounding = grounding
        self._model = model
        self._search = search
        self._passages: list[Passage] = []
        self.take(task.found)
        made = bool(self._calls(task.chat.messages[place:]))
        self.task = task if made or not self.question.strip() else replace(task, opening=(self._call(),))

    def _call(self) -> ToolCall:
        arguments = msgspec.json.encode({"query": self.question}).decode()
        return ToolCall(new_id("call_"), self._search, arguments)

    def read(self, event: Event) -> None:
        """Take up what the search found; every event of the run is shown here before the model is asked again."""
        if isinstance(event, CallEnded):
            self.take(event.result.found)

    def take(self, found: Sequence[Found]) -> None:
        """Show these passages too."""
        shown = self._grounding.shown
        self._passages += [Passage(each.store, each.hit, shown(each.hit.text)) for each in found]

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        shown = replace(
            chat,
            messages=self.shown(chat.messages),
            tools=[tool for tool in chat.tools if tool["function"]["name"] != self._search],
        )
        return self._grounding.quoting(self._model, self._passages, self.question).chat(shown, context)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        return self._model.complete(completion, context)

    def shown(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation without the calls of the search, its passages before the question that they are for."""
        searched = self._calls(messages)
        place = last_user(messages)
        kept = []
        for index, message in enumerate(messages):
            if index == place:
                kept.append(self._grounding.asked(message, self._passages, self.question))
            elif not (_ids(message) & searched or message.get("tool_call_id") in searched):
                kept.append(message)
        return kept

    def _calls(self, messages: Sequence[Message]) -> set[str]:
        """The ids of those calls of the search that are a message of their own."""
        found = [message["tool_calls"] for message in messages if message.get("tool_calls")]
        return {calls[0]["id"] for calls in found if len(calls) == 1 and calls[0]["function"]["name"] == self._search}


def _ids(message: Message) -> set[str]:
    return {call["id"] for call in message.get("tool_calls") or ()}
