"""/v1/prompts: texts with places and versions, in the form of Llama Stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from lsbuild_runtime.http import Request, Response, json_response
from lsbuild_runtime.prompts import Prompt, Prompts
from lsbuild_runtime.routes.fields import checked_text
from lsbuild_runtime.routes.wire import decode, refused

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

Text = Annotated[str, Meta(min_length=1)]
Names = Annotated[list[str], Meta(max_length=256)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class CreatePrompt(Struct, forbid_unknown_fields=True):
    """``variables`` are the names of the places; without them, those of the text."""

    prompt: Text
    variables: Names | None = None


class UpdatePrompt(Struct, forbid_unknown_fields=True):
    """``version`` is the latest one, so that two who change a prompt at a time do not undo each other."""

    prompt: Text
    version: Version
    variables: Names | None = None
    set_as_default: bool = True


class DefaultVersion(Struct, forbid_unknown_fields=True):
    """The version that is used when none is named."""

    version: Version


class PromptObject(Struct):
    """Llama Stack's prompt."""

    prompt_id: str
    version: int
    prompt: str
    variables: list[str]
    is_default: bool


class PromptList(Struct):
    """Prompts, or versions of one."""

    data: list[PromptObject]


class PromptDeleted(Struct):
    """The prompt that was deleted."""

    id: str
    object: str
    deleted: bool


_CREATE = msgspec.json.Decoder(CreatePrompt)
_UPDATE = msgspec.json.Decoder(UpdatePrompt)
_DEFAULT = msgspec.json.Decoder(DefaultVersion)


def listing(app: Site, _request: Request, _: str) -> Response:
    """All prompts, each in its default version."""
    return json_response(PromptList([described(prompt) for prompt in app.kept(Prompts).listing()]))


def create(app: Site, request: Request, _: str) -> Response:
    """Keep a prompt; it is on the disk when the answer is sent."""
    wanted = decode(request, _CREATE)
    return json_response(described(app.kept(Prompts).create(checked_text(wanted.prompt, "prompt"), wanted.variables)))


def retrieve(app: Site, request: Request, prompt_id: str) -> Response:
    """The default version, or the one that ``version`` names."""
    return json_response(described(app.kept(Prompts).get(prompt_id, _version(request))))


def versions(app: Site, _: Request, prompt_id: str) -> Response:
    """All versions, oldest first."""
    return json_response(PromptList([described(prompt) for prompt in app.kept(Prompts).versions(prompt_id)]))


def update(app: Site, request: Request, prompt_id: str) -> Response:
    """Keep a new version."""
    wanted = decode(request, _UPDATE)
    text = checked_text(wanted.prompt, "prompt")
    prompts = app.kept(Prompts)
    changed = prompts.update(prompt_id, wanted.version, text, wanted.variables, set_as_default=wanted.set_as_default)
    return json_response(described(changed))


def set_default(app: Site, request: Request, prompt_id: str) -> Response:
    """Choose the default version."""
    return json_response(described(app.kept(Prompts).set_default(prompt_id, decode(request, _DEFAULT).version)))


def delete(app: Site, _: Request, prompt_id: str) -> Response:
    """Delete a prompt with all its versions."""
    app.kept(Prompts).delete(prompt_id)
    return json_response(PromptDeleted(prompt_id, "prompt.deleted", True))


def described(prompt: Prompt) -> PromptObject:
    """A prompt as Llama Stack shows it."""
    return PromptObject(prompt.id, prompt.version, prompt.text, list(prompt.variables), prompt.is_default)


def _version(request: Request) -> int | None:
    text = request.query.get("version")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) < 2**31) or len(text) > 10:
        raise refused("version", f"expected a whole number from 1, got {text[:20]!r}")
    return int(text)
