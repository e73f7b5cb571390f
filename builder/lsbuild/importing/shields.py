"""Safety providers and registered shields to ``shields`` of the spec: by the models they name, else by rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lsbuild import registry
from lsbuild.importing import env, models, table
from lsbuild.importing.draft import Entry, Field
from lsbuild.importing.stack import Provider, Resource
from lsbuild.importing.work import Work, place, told

_RULES = "inline::rules"
_WEAKER = "a model judged there, rules judge here: they know phrases, not meanings"
_LEFT = "what was checked there is not checked here"
_GUARD, _PROMPTS = "inline::llama-guard", "inline::prompt-guard"
_CODES = tuple(f"S{number}" for number in range(1, 14))
_UNNAMED = re.compile(r"prompt-guard-2", re.IGNORECASE)
"""Models whose labels do not say what they mean."""


@dataclass(frozen=True, slots=True)
class _Made:
    """The fields of an entry, and what is to be said of it."""

    fields: Mapping[str, Field]
    notes: tuple[str, ...] = ()


def add(work: Work) -> None:
    """Registered shields of providers that judges, classifiers or rules can stand for; the others are named."""
    providers = {each.id: each for each in reversed(work.stack.providers) if each.api == "safety"}
    used = {owner for each in work.stack.of("shields") if (owner := _registered(work, providers, each))}
    for provider in (each for each in work.stack.providers if each.api == "safety"):
        what = f"provider safety/{provider.id} ({provider.type})"
        if not _packs(provider):
            work.found("none", what, provider.where, "", _LEFT)
        elif provider is not providers[provider.id]:
            note = f"the id is used in line {place(providers[provider.id].where)} already; left out"
            work.found("attention", what, provider.where, "", note)
        elif provider.id in used:
            work.found("mapped", what, provider.where, "", "its shields are shields here")
        else:
            work.found("none", what, provider.where, "", f"no shield of it is registered; {_LEFT}")


def _packs(provider: Provider) -> tuple[str, ...]:
    """The packs of rules that stand for a provider, when this lsbuild has rules."""
    return table.SHIELDS.get(provider.type, ()) if _RULES in registry.PLUGINS else ()


def _registered(work: Work, providers: Mapping[str, Provider], resource: Resource) -> str:
    """Draft a registered shield; returns its provider's id, or ""."""
    written = resource.text("shield_id", "identifier") or ""
    usual, what = env.usual(written), f"shield {env.usual(written)}".rstrip()
    owner = resource.text("provider_id") or (next(iter(providers)) if len(providers) == 1 else "")
    provider = providers.get(env.usual(owner))
    if not usual or provider is None or not _packs(provider):
        reason = "it has no shield_id" if not usual else f"its provider {provider.type if provider else repr(owner)}"
        work.found("none", what, resource.where, "", f"{reason} has no counterpart; {_LEFT}" if usual else reason)
        return ""
    if any(entry.section == "shields" and entry.id == usual for entry in work.entries):
        work.found("attention", what, resource.where, "", "the id is used already; left out")
        return provider.id
    conditions = (*env.conditions(owner), *provider.conditions)
    off = f"commented out: it was there only when {', '.join(conditions)} was set" if conditions else ""
    off = "commented out: it was off in the file" if provider.off else off
    name = work.name("shields", usual)
    made = _judge(work, provider, resource) or _classifier(provider, resource) or _rules(provider)
    notes = tuple(note for note in (*made.notes, off) if note)
    comments = [f"{usual} ({provider.type}), line {place(resource.where)}", *notes]
    path = work.add(Entry("shields", name, made.fields, comments, not off, usual))
    renamed = f"clients call it '{name}'" if name != usual else ""
    work.found("attention" if notes else "mapped", what, resource.where, path, told(*notes, renamed))
    return provider.id


def _named(resource: Resource) -> str:
    """The model that a shield names; its own id does where it names none."""
    return env.usual(resource.text("provider_shield_id", "provider_resource_id", "shield_id", "identifier") or "")


def _judge(work: Work, provider: Provider, resource: Resource) -> _Made | None:
    """A judge, where the model of a Llama Guard is an llm of the file."""
    model = models.named(work, _named(resource), "llm") if provider.type == _GUARD else ""
    if not model:
        return None
    fields = {"provider": Field("inline::llm-judge", f"was {provider.type}"), "model": Field(model)}
    excluded = provider.config.map.get("excluded_categories")
    without = {str(node.value) for node in (excluded.list if excluded is not None else ())}
    if without & set(_CODES):
        fields["config"] = Field({"categories": Field(tuple(code for code in _CODES if code not in without))})
    return _Made(fields)


def _classifier(provider: Provider, resource: Resource) -> _Made | None:
    """A classifier, where a Prompt Guard names its model as ORG/NAME."""
    named = _named(resource)
    if provider.type != _PROMPTS or not re.fullmatch(r"[\w.-]+/[\w.-]+", named, re.ASCII):
        return None
    comment = f"TO DO: the 40 digits of a commit in place of {models.PIN}, or a folder"
    config: dict[str, Field] = {"where": Field(("input", "retrieved"))}
    if _UNNAMED.search(named):
        config["labels"] = Field({"LABEL_1": Field({"category": Field("prompt-injection")})})
    fields = {
        "provider": Field("inline::onnx", f"was {provider.type}"),
        "source": Field(f"hf://{named}@{models.PIN}", comment),
        "config": Field(config),
    }
    return _Made(fields, (f"pin the source: a commit in place of {models.PIN}, or a folder",))


def _rules(provider: Provider) -> _Made:
    """Packs of rules, which are less."""
    fields = {"provider": Field(_RULES, f"was {provider.type}"), "config": Field({"packs": Field(_packs(provider))})}
    return _Made(fields, (_WEAKER,))
