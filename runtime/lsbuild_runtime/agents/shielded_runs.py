"""An agent's run behind shields: what goes in is looked at before it begins, what is said before it leaves.

Calls and what they give are the loop's to look at (see policy); here they pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from lsbuild_runtime.agents.runs import Ended, Event, Runner, StepDone, Task
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Chat, Completion, Delta, Usage
from lsbuild_runtime.safety.looking import Blocked, Look
from lsbuild_runtime.safety.shielded import Shielded


class ShieldedRunner:
    """Implements runs.Runner over ``runner``. A refusal is a Delta with one, and the run ends with ``content_filter``."""

    def __init__(self, runner: Runner, look: Look) -> None:
        self._runner = runner
        self._look = look

    def task(self, chat: Chat, context: Context) -> Task:
        """See runs.Runner."""
        return self._runner.task(chat, context)

    def run(self, task: Task, context: Context) -> Iterator[Event]:
        """See runs.Runner."""
        answers = _Answers()
        shielded = Shielded(answers, self._look)
        try:
            messages = [shielded.message(message, context) for message in task.chat.messages]
        except Blocked as blocked:
            yield Delta(refusal=blocked.finding.message)
            yield Ended("content_filter")
            return
        answers.events = self._runner.run(replace(task, chat=replace(task.chat, messages=messages)), context)
        said = Chat((), replace(task.chat.sampling, n=1))
        usage = Usage()
        try:
            while not isinstance(answers.other, Ended):
                for delta in shielded.chat(said, context):
                    if delta.finish == "content_filter":
                        yield Delta(refusal=delta.refusal)
                        yield Ended("content_filter", usage=usage)
                        return
                    if delta != Delta(finish=delta.finish):
                        yield replace(delta, finish=None)
                if isinstance(answers.other, StepDone):
                    usage += answers.other.usage
                if answers.other is not None:
                    yield answers.other
        finally:
            answers.close()


class _Answers:
    """Implements ports.Inference over the events of a run: each answer is what is said up to ``other``, the next event that
    is no Delta."""

    def __init__(self) -> None:
        self.events: Iterator[Event] = iter(())
        self.other: Event | None = None

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:  # noqa: ARG002 - all is in the events
        """See ports.Inference."""
        for event in self.events:
            if not isinstance(event, Delta):
                self.other = event
                break
            yield event
        yield Delta(finish="stop")  # what a guard holds back leaves before the other event does

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """A run is a conversation."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the run."""
        close = getattr(self.events, "close", None)
        if close is not None:
            close()
