"""Providers of vector_io and registered vector stores to ``vector_stores`` of the spec."""

from __future__ import annotations

from collections.abc import Mapping

from lsbuild.importing import env, models, remotes, table
from lsbuild.importing.draft import Entry, Field
from lsbuild.importing.names import variable_of
from lsbuild.importing.stack import Provider, Resource, text
from lsbuild.importing.work import Work, place, told
from lsbuild.spec.marks import Node

_PGVECTOR = "remote::pgvector"
_MOVED = "its documents are not moved: upload them again"
_ID_KEYS = ("vector_store_id", "vector_db_id", "identifier")


def add(work: Work) -> None:
    """Registered stores, and one for clients to add to where a provider has none registered."""
    providers: dict[str, Provider] = {}
    for provider in (each for each in work.stack.providers if each.api in {"vector_io", "memory"}):
        if provider.id in providers:
            note = f"the id is used in line {place(providers[provider.id].where)} already; left out"
            work.found("attention", _what(provider), provider.where, "", note)
        else:
            providers[provider.id] = provider
    used = {
        owner for each in work.stack.of("vector_stores", "vector_dbs") if (owner := _registered(work, providers, each))
    }
    default = _default(work, providers)
    for provider in providers.values():
        if not _mappable(provider):
            work.found("none", _what(provider), provider.where, "", "use inline::sqlite-vec or remote::pgvector")
        elif provider.id in used:
            work.found("mapped", _what(provider), provider.where, "", "its settings stand at its stores")
        else:
            _unregistered(work, provider, active=not used and provider.id == default)


def _what(provider: Provider) -> str:
    return f"provider {provider.api}/{provider.id} ({provider.type})"


def _mappable(provider: Provider) -> bool:
    return provider.type in table.STORES or provider.type == _PGVECTOR


def _settings(work: Work, *path: str) -> Node | None:
    node = work.stack.settings.get("vector_stores")
    return node.get(path) if node is not None else None


def _default(work: Work, providers: Mapping[str, Provider]) -> str:
    """The provider that new stores went to: the file's default, or the first that is on without a variable."""
    wanted = env.usual(text(_settings(work, "default_provider_id")) or "")
    mappable = [each for each in providers.values() if _mappable(each)]
    always = [each for each in mappable if not (each.conditions or each.off)]
    return next(
        (each.id for each in [*mappable] if each.id == wanted), next((each.id for each in always or mappable), "")
    )


def _registered(work: Work, providers: Mapping[str, Provider], resource: Resource) -> str:
    """Draft a registered store; returns its provider's id, or ""."""
    written = resource.text(*_ID_KEYS)
    usual = env.usual(written or "")
    what = f"vector store {usual}".rstrip()
    owner = env.usual(resource.text("provider_id") or "") or _default(work, providers)
    provider = providers.get(owner)
    if not usual or provider is None:
        note = f"there is no vector_io provider '{owner}'; left out" if usual else "it has no id; left out"
        work.found("attention", what, resource.where, "", note)
        return ""
    if any(entry.section == "vector_stores" and entry.id == usual for entry in work.entries):
        work.found("attention", what, resource.where, "", "the id is used already; left out")
        return provider.id
    if not _mappable(provider):
        work.found("none", what, resource.where, "", f"its provider {provider.type} has no counterpart")
        return ""
    embedding = _embedding(work, resource.text("embedding_model") or "", resource.where)
    fields, more = _fields(work, provider, embedding)
    name = work.name("vector_stores", usual)
    notes = (*more, *models.switched(provider), _MOVED)
    comments = [f"{usual} ({provider.type}), line {place(resource.where)}", *notes]
    path = work.add(Entry("vector_stores", name, fields, comments, id=usual))
    renamed = f"clients call it '{name}'" if name != usual else ""
    work.found("attention", what, resource.where, path, told(*notes, renamed))
    return provider.id


def _unregistered(work: Work, provider: Provider, *, active: bool) -> None:
    """A store that clients add to, and that new stores are made like; commented out unless it is the default one."""
    embedding = _embedding(work, "", provider.where)
    fields, more = _fields(work, provider, embedding)
    off = () if active else ("commented out: another one is the default; uncomment to use it too",)
    notes = (*more, *(models.switched(provider) if active else ()), *off)
    name = work.name("vector_stores", provider.id)
    comments = [f"{provider.id} ({provider.type}), line {place(provider.where)}", *notes]
    path = work.add(Entry("vector_stores", name, fields, comments, active))
    work.found("attention", _what(provider), provider.where, path, told(*notes, _MOVED))


def _embedding(work: Work, model_id: str, where: str) -> str:
    """The name of an embedding model that is compiled into the artifact; one is drafted when there is none."""
    compiled = {entry.name for entry in work.active("models", type="embedding", provider="inline::onnx")}
    wanted = models.named(work, model_id, "embedding") if model_id else ""
    if wanted in compiled:
        return wanted
    if not model_id and compiled:
        preferred = models.named(work, text(_settings(work, "default_embedding_model", "model_id")) or "", "embedding")
        return preferred if preferred in compiled else min(compiled)
    remote = _remote_embedding(work, wanted) if wanted or not model_id else ""
    usual = env.usual(model_id) or remote or "all-MiniLM-L6-v2"
    known = models.repository_of(remote or usual)
    same = next((entry.name for entry in work.active("models", type="embedding") if entry.id == known), "")
    if same in compiled:
        return same
    why = "a store needs an embedding model that is compiled into the artifact"
    notes = (f"{why}; '{usual}' was served remotely" if remote else why,)
    nothing = Node({}, work.stack.keys["providers"])
    inline = Provider("inference", "sentence-transformers", table.INLINE[0], nothing, where)
    drafted = models.Wanted(known, known, "embedding", f"embedding model {known}", where, notes=notes)
    return models.model(work, inline, drafted)


def _remote_embedding(work: Work, name: str) -> str:
    """What the provider of the embedding model ``name``, or of the first there is, calls it; "" when there is none."""
    entries = work.active("models", type="embedding", provider="remote::openai")
    for entry in (each for each in entries if name in {"", each.name}):
        config = entry.fields.get("config")
        model = config.value.get("model") if config is not None and isinstance(config.value, Mapping) else None
        return env.usual(str(model.value)) if model is not None else entry.id
    return ""


def _fields(work: Work, provider: Provider, embedding: str) -> tuple[dict[str, Field], tuple[str, ...]]:
    pgvector = provider.type == _PGVECTOR
    comment = "" if provider.type in {_PGVECTOR, "inline::sqlite-vec"} else f"was {provider.type}"
    fields = {
        "provider": Field(_PGVECTOR if pgvector else "inline::sqlite-vec", comment),
        "embedding": Field(embedding),
        "mutable": Field(value=True, comment="clients add documents and create stores of their own"),
    }
    fields |= _chunk(work)
    mode = _settings(work, "chunk_retrieval_params", "default_search_mode")
    if mode is not None and mode.value in {"vector", "keyword", "hybrid"}:
        fields["search"] = Field(str(mode.value), place(mode.origin.where))
    if not pgvector:
        return fields, ()
    config, notes = _pgvector(work, provider)
    return {**fields, "config": Field(config)}, notes


def _chunk(work: Work) -> dict[str, Field]:
    sizes = {}
    for key, theirs in (("tokens", "default_chunk_size_tokens"), ("overlap", "default_chunk_overlap_tokens")):
        node = _settings(work, "file_ingestion_params", theirs)
        if node is not None and isinstance(node.value, int) and not isinstance(node.value, bool):
            sizes[key] = Field(node.value, place(node.origin.where))
    numbers = [each.value for each in sizes.values() if isinstance(each.value, int)]
    fits = len(numbers) == 2 and 16 <= numbers[0] <= 8192 and 0 <= numbers[1] * 2 < numbers[0]
    return {"chunk": Field(sizes)} if fits else {}


def _pgvector(work: Work, provider: Provider) -> tuple[dict[str, Field], tuple[str, ...]]:
    """Host, port, database, user and password; libpq's other settings have defaults of their own."""
    given, notes = provider.config.map, list[str]()
    config: dict[str, Field] = {}
    for key, theirs in (("host", "host"), ("database", "db"), ("user", "user")):
        node = given.get(theirs)
        if node is not None and (written := text(node)) and "@" in written:
            notes.append(f"{theirs} was not copied: it may hold a password; `dsn: {{secret: NAME}}` may")
        elif node is not None and written:
            config[key] = Field(env.modern(written), place(node.origin.where))
    lost = "@" in (text(given.get("host")) or "")
    host = f"${{env.{variable_of(provider.id, 'host')}}}" if lost else "localhost"
    config.setdefault("host", Field(host, "" if lost else "the file names none"))
    if (node := given.get("port")) is not None:
        config |= _port(work, provider, node, notes)
    password = given.get("password")
    if password is not None:
        secret = remotes.secret_of(password, provider.id, variable_of(provider.id, "password"), notes)
        config |= {"password": secret} if secret is not None else {}
    rest = [key for key in given if key not in {"host", "port", "db", "user", "password"}]
    if rest:
        notes.append(f"not carried over: {', '.join(rest)}")
    order = ("host", "port", "database", "user", "password")
    return {key: config[key] for key in order if key in config}, tuple(notes)


def _port(work: Work, provider: Provider, node: Node, notes: list[str]) -> dict[str, Field]:
    """A number stands as it is; one with a default comes from a param, since a port is read at build."""
    written = text(node) or ""
    usual = env.usual(written)
    if not usual.isdecimal() or not 1 <= int(usual) <= 65535:
        notes.append("the port was not carried over: it is a number that is known at build")
        return {}
    if usual == written:
        return {"port": Field(int(usual), place(node.origin.where))}
    param = f"{variable_of(provider.id, 'port').lower()}"
    work.params[param] = Field(env.modern(written), f"{place(node.origin.where)}; read at build")
    return {"port": Field(f"${{params.{param}}}")}
