"""Inference providers and models of the file to ``models`` of the spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lsbuild.importing import env, remotes, table
from lsbuild.importing.draft import Entry, Field
from lsbuild.importing.stack import DISABLED, Provider, Resource, text
from lsbuild.importing.work import Work, place, told
from lsbuild.spec.marks import Node
from lsbuild.suggest import did_you_mean

PIN = "PIN-A-COMMIT"
_TYPES = {"llm": "llm", "embedding": "embedding", "rerank": "rerank", "reranker": "rerank"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that the file asks for: ``id`` is what clients call it, ``upstream`` what its provider does."""

    id: str
    upstream: str
    type: str
    what: str
    where: str
    metadata: Mapping[str, Node] = field(default_factory=dict)
    active: bool = True
    notes: tuple[str, ...] = ()


def add(work: Work) -> None:
    """Every registered model, the default ones, and an entry to complete for a provider that names none."""
    providers = _providers(work)
    asked: set[str] = set()
    for resource in work.stack.of("models"):
        _registered(work, providers, resource, asked)
    _defaults(work, providers, asked)
    for provider in providers.values():
        if provider.type in table.REMOTES:
            _provider(work, provider, asked)
        elif provider.type in table.INLINE:
            note = "inline::onnx compiles each model that is named" if provider.id in asked else "no model names it"
            work.found("mapped" if provider.id in asked else "default", _what(provider), provider.where, "", note)
        else:
            note = "no compatible API is known of it; a server that has one is `provider: remote::openai`"
            work.found("none", _what(provider), provider.where, "", note)


def _what(provider: Provider) -> str:
    return f"provider {provider.api}/{provider.id} ({provider.type})"


def _providers(work: Work) -> dict[str, Provider]:
    """The inference providers by id, the first of each; the others are said to be left out."""
    found: dict[str, Provider] = {}
    for provider in (each for each in work.stack.providers if each.api == "inference"):
        if provider.id in found:
            note = f"the id is used in line {place(found[provider.id].where)} already; left out"
            work.found("attention", _what(provider), provider.where, "", note)
        else:
            found[provider.id] = provider
    return found


def _registered(work: Work, providers: Mapping[str, Provider], resource: Resource, asked: set[str]) -> None:
    written = resource.text("model_id", "identifier")
    what = f"model {env.usual(written)}" if written else "model"
    if not written or not env.usual(written):
        work.found("attention", what, resource.where, "", "it has no model_id; left out")
        return
    owner = env.usual(resource.text("provider_id") or "")
    if owner == DISABLED or DISABLED in env.usual(written):
        work.found("attention", what, resource.where, "", "it is off in the file unless a variable is set; left out")
        return
    provider = next(iter(providers.values())) if not owner and len(providers) == 1 else providers.get(owner)
    if provider is None:
        note = _no_provider(owner, providers)
        work.found("attention", what, resource.where, "", note)
        return
    asked.add(provider.id)
    if any(entry.id == env.usual(written) for entry in work.entries):
        work.found("attention", what, resource.where, "", "the id is used already; left out")
        return
    conditions = env.conditions(written + (resource.text("provider_id") or ""))
    kind = resource.text("model_type") or "llm"
    metadata = resource.node.map.get("metadata")
    wanted = Wanted(
        id=written,
        upstream=resource.text("provider_model_id", "provider_resource_id") or written,
        type=kind,
        what=what,
        where=resource.where,
        metadata=metadata.map if metadata is not None else {},
        active=not conditions,
        notes=(f"commented out: it was there only when {', '.join(conditions)} was set",) if conditions else (),
    )
    model(work, provider, wanted)


def _no_provider(owner: str, providers: Mapping[str, Provider]) -> str:
    if owner == "all":
        return "it stands for whichever provider is first; name one, or a `route` of models; left out"
    return f"there is no inference provider '{owner}'.{did_you_mean(owner, providers)} Left out"


def model(work: Work, provider: Provider, wanted: Wanted) -> str:
    """Draft the entry of ``wanted`` and report it; returns its name, or "" when there is no counterpart."""
    kind = _TYPES.get(wanted.type)
    if kind is None:
        work.found("none", wanted.what, wanted.where, "", f"there are no models of type '{wanted.type}'")
        return ""
    if provider.type in table.INLINE:
        fields, notes = _inline(wanted, kind)
    elif provider.type not in table.REMOTES:
        work.found("none", wanted.what, wanted.where, "", f"its provider {provider.type} has no counterpart")
        return ""
    elif kind == "rerank":
        work.found("none", wanted.what, wanted.where, "", "remote::openai serves no rerank models; inline::onnx does")
        return ""
    else:
        fields, notes = {}, ()
    name = work.name("models", env.usual(wanted.id))
    if provider.type in table.REMOTES:
        fields, notes = _remote(provider, wanted, kind, name)
    notes = (*notes, *wanted.notes, *(switched(provider) if wanted.active else ()))
    theirs = env.usual(wanted.id)
    comments = [f"{theirs} ({provider.type}), line {place(wanted.where)}", *notes]
    path = work.add(Entry("models", name, fields, comments, wanted.active, theirs))
    renamed = f"clients call it '{name}'" if name != theirs else ""
    work.found("attention" if notes else "mapped", wanted.what, wanted.where, path, told(*notes, renamed))
    return name


def switched(provider: Provider) -> tuple[str, ...]:
    """What is said of a provider that the file switches on by a variable, or off."""
    if provider.conditions:
        return (f"it was there when {', '.join(provider.conditions)} was set; here always",)
    return ("it was off in the file",) if provider.off else ()


def _inline(wanted: Wanted, kind: str) -> tuple[dict[str, Field], tuple[str, ...]]:
    repository = repository_of(env.usual(wanted.upstream))
    comment = f"TO DO: the 40 digits of a commit in place of {PIN}, or a folder"
    fields = {
        "type": Field(kind),
        "provider": Field("inline::onnx"),
        "source": Field(f"hf://{repository}@{PIN}", comment),
    }
    return fields, (f"pin the source: a commit in place of {PIN}, or a folder",)


def repository_of(model_id: str) -> str:
    """``ORG/NAME`` on the model hub of a sentence-transformers id."""
    known = table.REPOSITORIES.get(model_id.partition(":")[0].lower())
    parts = [part for part in re.sub(r"[^\w./-]+", "-", model_id, flags=re.ASCII).split("/") if part]
    return known or "/".join(["sentence-transformers", *parts][-2:])


def _remote(provider: Provider, wanted: Wanted, kind: str, name: str) -> tuple[dict[str, Field], tuple[str, ...]]:
    settings = remotes.settings(provider)
    fields = {"type": Field(kind), "provider": Field("remote::openai", f"was {provider.type}")}
    fields |= _sizes(wanted, kind)
    upstream = remotes.upstream_model(provider, wanted.upstream)
    config = dict(settings.config)
    if upstream.value != name:
        config["model"] = upstream
    return {**fields, "config": Field(config)}, settings.notes


def _sizes(wanted: Wanted, kind: str) -> dict[str, Field]:
    pairs = (("embedding", "dimensions", "embedding_dimension", 1), ("llm", "context", "context_length", 16))
    found = {}
    for wanted_kind, key, theirs, least in pairs:
        node = wanted.metadata.get(theirs)
        usual = env.usual(text(node) or "")
        if node is not None and kind == wanted_kind and usual.isdecimal() and least <= int(usual) <= 1 << 20:
            found[key] = Field(int(usual), place(node.origin.where))
    return found


def _defaults(work: Work, providers: Mapping[str, Provider], asked: set[str]) -> None:
    """``vector_stores.default_embedding_model`` and ``default_reranker_model``."""
    settings = work.stack.settings.get("vector_stores")
    for key, kind in (("default_embedding_model", "embedding"), ("default_reranker_model", "rerank")):
        node = settings.map.get(key) if settings is not None else None
        if node is None or node.value is None:
            continue
        resource = Resource(key, node)
        model_id, owner = resource.text("model_id"), env.usual(resource.text("provider_id") or "")
        what = f"vector_stores.{key}"
        provider = providers.get(owner)
        if not model_id or provider is None:
            note = _no_provider(owner, providers) if model_id else "it has no model_id; left out"
            work.found("attention", what, resource.where, "", note)
            continue
        asked.add(provider.id)
        same = named(work, model_id, kind)
        if same:
            work.found("mapped", what, resource.where, f"models.{same}")
            continue
        hint = () if kind == "embedding" else ("commented out; a store that names it as `rerank` uses it",)
        wanted = Wanted(model_id, model_id, kind, what, resource.where, active=kind == "embedding", notes=hint)
        model(work, provider, wanted)


def named(work: Work, model_id: str, kind: str) -> str:
    """The active entry of type ``kind`` for a model id, which may begin with its provider's; "" when there is none."""
    usual = env.usual(model_id).lower()
    for entry in work.active("models", type=kind):
        theirs = entry.id.lower()
        if usual == theirs or usual.endswith(f"/{theirs}") or theirs.endswith(f"/{usual}"):
            return entry.name
    return ""


def _provider(work: Work, provider: Provider, asked: set[str]) -> None:
    """The report of a remote provider; one that no model names gets an entry to complete, or those it allows."""
    if provider.id in asked:
        work.found("mapped", _what(provider), provider.where, "", "its settings stand at its models")
        return
    allowed = provider.config.map.get("allowed_models")
    names = [name for node in (allowed.list if allowed is not None else ()) if (name := text(node))]
    for name in names:
        model(work, provider, Wanted(name, name, "llm", f"model {env.usual(name)}", provider.where))
    if names:
        work.found("mapped", _what(provider), provider.where, "", "its allowed_models are the models")
        return
    what = Wanted(provider.id, "NAME-OF-THE-MODEL", "llm", _what(provider), provider.where, active=False)
    hint = "it served every model it found; here each is named: uncomment the entry and name one"
    model(work, provider, replace(what, notes=(hint,)))
