"""`inline::prompts` for the builder: ships the text of a prompt; the places are filled by the runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from lsbuild.api import Compiled, Given, Item, Json, Plugin, Problem, Service, SourceError, Step, StepContext
from lsbuild.spec.model import Prompt
from lsbuild_plugins.documents import texts
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.prompts import FILE_NAME, declared


class PromptsPlugin(Plugin):
    """The compile half of `inline::prompts`."""

    provider = "inline::prompts"
    kinds = ("prompts",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Names that are none, and places of the text that are not declared; those of a file are looked at when it is read."""
        spec = _spec(item)
        if spec.variables is None:
            return
        try:
            declared("" if texts.path_of(spec.text) else spec.text, spec.variables)
        except ApiError as error:
            yield Problem(("variables",), error.message)

    def sources(self, item: Item) -> Mapping[str, str]:
        """The file of the text, if it is in one."""
        path = texts.path_of(_spec(item).text)
        return {"text": path} if path else {}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step that writes the text, one service."""
        spec = _spec(item)
        variables = None if spec.variables is None else list(spec.variables)
        folder = f"prompts/{item.name}"
        step = Step(
            name=f"prompts.{item.name}.text",
            run="lsbuild_plugins.prompts.plugin:write",
            options={"text": "" if given.sources else spec.text, "variables": variables},
            sources=given.sources,
            code=("lsbuild_plugins.prompts", "lsbuild_plugins.documents.texts", "lsbuild_runtime.prompts"),
            ship=folder,
            part="app",
        )
        service = Service(
            api="prompts",
            name=item.name,
            provider=item.provider,
            entry="lsbuild_runtime.prompts:open_prompt",
            path=folder,
            config={} if variables is None else {"variables": variables},
        )
        return Compiled(steps=(step,), services=(service,))


PLUGIN = PromptsPlugin()


def write(context: StepContext) -> Mapping[str, Json]:
    """The step: one UTF-8 text file. SourceError for an empty text and for a place that is not declared."""
    text = texts.read(context.options["text"], context.sources, "words of the prompt").strip()
    where = next((source.uri for source in context.sources.values()), "")
    if not text:
        raise SourceError("the prompt is empty", where=where, hint="Write a text, with {{places}} for what changes.")
    try:
        variables = declared(text, context.options["variables"])
    except ApiError as error:
        hint = "Add it to `variables`, or leave `variables` out: they are then those of the text."
        raise SourceError(error.message, where=where, hint=hint) from error
    (context.out / FILE_NAME).write_text(text, encoding="utf-8")
    return {"characters": len(text), "variables": list(variables)}


def _spec(item: Item) -> Prompt:
    return cast("Prompt", item.spec)
