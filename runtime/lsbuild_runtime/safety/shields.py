"""What routes share of the safety API: which shields are asked, what of a message is looked at, and what is reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.safety import Action, Category, Finding, Safety, Verdict, Where
from lsbuild_runtime.services import Services

if TYPE_CHECKING:
    from lsbuild_runtime.ports import Inference
    from lsbuild_runtime.safety.looking import Look

API = "safety"
OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""What OpenAI's clients read of an answer."""
_SEVERITY: Mapping[Action, int] = {"warn": 0, "redact": 1, "block": 2}


class Piece(Struct, frozen=True):
    """One text of a conversation: the number of its message, and what kind of text it is."""

    message: int
    where: Where
    text: str


class Report(Struct, frozen=True):
    """One finding for a client."""

    rule: str
    category: str
    action: Action
    start: int
    end: int
    message: int | None = None
    where: Where | None = None


def shields(services: Services) -> list[Service]:
    """The shields of the bundle, in the order of the spec."""
    return [service for service in services if service.api == API]


def named(services: Services, name: str | None, param: str) -> Service:
    """The shield of that name, or the only one; ApiError 404 when there is none, 400 when a name is needed."""
    known = shields(services)
    if name is not None:
        found = next((service for service in known if service.name == name), None)
        if found is None:
            raise ApiError(
                404, f"no shield {name[:100]!r}; GET /v1/shields lists them", param=param, code="shield_not_found"
            )
        return found
    if not known:
        raise ApiError(404, "this bundle has no shield; name one under 'shields' in the spec", code="shield_not_found")
    if len(known) > 1:
        names = ", ".join(service.name for service in known)
        raise ApiError(400, f"{param}: name one of the shields {names}", param=param, code="missing_required_parameter")
    return known[0]


def guardrails(services: Services, given: bool | Sequence[str | Mapping[str, Any]], param: str) -> tuple[str, ...]:
    """The shields that a request names: by name, by ``{"type": NAME}``, or all of the bundle with ``true``.

    ApiError 400 names the entry that is no shield, or says that the bundle has none.
    """
    known = {service.name: service for service in shields(services)}
    if isinstance(given, bool):
        if given and not known:
            raise ApiError(400, f"{param}: this bundle has no shield", param=param, code="shield_not_found")
        return tuple(known) if given else ()
    names = []
    for place, entry in enumerate(given):
        where = f"{param}[{place}]"
        name = entry if isinstance(entry, str) else entry.get("type")
        if not isinstance(name, str) or (not isinstance(entry, str) and set(entry) != {"type"}):
            raise ApiError(
                400, f'{where}: give a shield\'s name or {{"type": NAME}}', param=where, code="invalid_value"
            )
        if name not in known:
            message = f"{where}: no shield {name[:100]!r}; GET /v1/shields lists them"
            raise ApiError(400, message, param=where, code="shield_not_found")
        names.append(name)
    return tuple(dict.fromkeys(names))


def looking(services: Services, names: Iterable[str]) -> Look:
    """These shields for single texts, cheapest first, in the given order where they cost alike."""
    from lsbuild_runtime.safety.failsafe import Failsafe  # only where there are shields
    from lsbuild_runtime.safety.looking import Look

    wanted = [named(services, name, "shield") for name in names]
    return Look([Failsafe(service, services) for service in sorted(wanted, key=cost)])


def guarded(port: Inference, services: Services, names: Sequence[str]) -> Inference:
    """``port`` behind the shields ``names`` (as ``guardrails`` gives them), beside those that it is behind already."""
    if not names:
        return port
    from lsbuild_runtime.safety.shielded import Shielded

    standing = {shield.name for shield in port.look.shields} if isinstance(port, Shielded) else set()
    return Shielded(port, looking(services, [name for name in names if name not in standing]))


def cost(shield: Service) -> int:
    """Its place among others: 0 rules, 1 classifiers, 2 other servers, 3 judges; the cheapest is asked first."""
    return int(shield.metadata.get("cost", 0))


def look(services: Services, shield: Service, text: str, where: Where, context: Context) -> Verdict:
    """What the shield says about a text."""
    port: Safety = services.get(API, shield.name)
    with context.watch.span("safety.check", shield=shield.name, where=where) as span:
        verdict = port.check(text, where, context)
        span.set(findings=len(verdict.findings), blocked=verdict.blocked is not None)
    return verdict


def pieces(messages: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
    """The texts of messages in OpenAI's form: what users and instructions say is input, what a tool says retrieved."""
    for number, message in enumerate(messages):
        role = message["role"]
        where: Where = "output" if role == "assistant" else "retrieved" if role == "tool" else "input"
        if text := _text(message.get("content")):
            yield Piece(number, where, text)
        for call in message.get("tool_calls") or ():
            yield Piece(number, "tool_args", call["function"]["arguments"])


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(part["text"] for part in content if "text" in part)


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The first of the gravest findings."""
    return max(findings, key=lambda finding: _SEVERITY[finding.action], default=None)


def report(finding: Finding, piece: Piece | None = None) -> Report:
    """What a client is told of a finding; never the text that was found."""
    place = (None, None) if piece is None else (piece.message, piece.where)
    return Report(finding.rule, finding.category, finding.action, finding.start, finding.end, *place)


def flags(findings: Iterable[Finding], categories: Sequence[Category]) -> dict[str, bool]:
    """OpenAI's categories and the shield's own, each with whether something of it was found."""
    found = {finding.category for finding in findings}
    marked = dict.fromkeys((*OPENAI_CATEGORIES, *(category.name for category in categories)), False)
    marked.update(dict.fromkeys(found, True))  # another server may name categories that nobody knew of
    for category in categories:
        if category.name in found:
            marked.update(dict.fromkeys(category.openai, True))
    return marked


def scores(verdict: Verdict, flags: Mapping[str, bool], categories: Sequence[Category]) -> dict[str, float]:
    """How sure the shield is of each of ``flags``; 1 or 0 where it does not score."""
    found = {name: float(flag) for name, flag in flags.items()}
    if not verdict.scores:
        return found
    found = dict.fromkeys(flags, 0.0) | dict(verdict.scores)
    for category in categories:
        for name in category.openai:
            found[name] = max(found.get(name, 0.0), verdict.scores.get(category.name, 0.0))
    return {name: found[name] for name in flags}


def llama_guard(findings: Iterable[Finding], categories: Sequence[Category]) -> list[str]:
    """The codes of Llama Guard's taxonomy of what was found, in order."""
    found = {finding.category for finding in findings}
    codes = {code for category in categories if category.name in found for code in category.llama_guard}
    return sorted(codes, key=lambda code: int(code[1:]))
