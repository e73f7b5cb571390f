"""Safety providers and registered shields to ``shields`` of the spec, as far as rules can stand for them."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild import registry
from lsbuild.importing import env, table
from lsbuild.importing.draft import Entry, Field
from lsbuild.importing.stack import Provider, Resource
from lsbuild.importing.work import Work, place, told

_RULES = "inline::rules"
_WEAKER = "a model judged there, rules judge here: they know phrases, not meanings"
_LEFT = "what was checked there is not checked here"


def add(work: Work) -> None:
    """Registered shields of providers that packs of rules can stand for; the others are named."""
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
    notes = tuple(note for note in (_WEAKER, off) if note)
    fields = {"provider": Field(_RULES, f"was {provider.type}"), "config": Field({"packs": Field(_packs(provider))})}
    comments = [f"{usual} ({provider.type}), line {place(resource.where)}", *notes]
    path = work.add(Entry("shields", name, fields, comments, not off, usual))
    renamed = f"clients call it '{name}'" if name != usual else ""
    work.found("attention", what, resource.where, path, told(*notes, renamed))
    return provider.id
