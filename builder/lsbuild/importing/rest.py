"""Everything of the file that becomes no model and no store, each with a line in the report; and the server's address."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from lsbuild.importing import env, table
from lsbuild.importing.draft import Field
from lsbuild.importing.stack import Provider, Resource, text
from lsbuild.importing.work import Work, place
from lsbuild.spec.marks import Node, is_list
from lsbuild.suggest import did_you_mean

_MAPPED_APIS = ("inference", "vector_io", "memory", "safety", "tool_runtime")
_MAPPED = ("models", "shields", "vector_stores", "vector_dbs", "tool_groups", "connectors")
_FILES = ("files", "file_processors")


def add(work: Work) -> None:
    """Other providers, other resources, settings."""
    for provider in work.stack.providers:
        if provider.api not in _MAPPED_APIS:
            _provider(work, provider)
    for resource in work.stack.resources:
        if resource.kind not in _MAPPED:
            _resource(work, resource)
    for key, node in work.stack.settings.items():
        if key not in table.SILENT:
            _setting(work, key, node)


def _provider(work: Work, provider: Provider) -> None:
    what = f"provider {provider.api}/{provider.id} ({provider.type})"
    if provider.api in _FILES and provider.type.startswith("inline::"):
        mutable = bool(work.active("vector_stores"))
        note = "files are served with a mutable store" if mutable else "files are served once a store is mutable"
        work.found("default", what, provider.where, "", f"{note}; its files are not moved")
    elif provider.api in _FILES:
        work.found("none", what, provider.where, "", "files lie in the artifact's state folder, and are read by itself")
    else:
        unknown = f"the API '{provider.api}' is not known.{did_you_mean(provider.api, _apis())}"
        status, note = table.APIS.get(provider.api, ("attention", unknown))
        work.found(status, what, provider.where, "", note)


def _apis() -> tuple[str, ...]:
    return (*table.APIS, *_MAPPED_APIS, *_FILES)


def _resource(work: Work, resource: Resource) -> None:
    keys, note = table.RESOURCES.get(resource.kind, ((), "this kind of resource is not known"))
    name = env.usual(resource.text(*keys) or "")
    status = "none" if resource.kind in table.RESOURCES else "attention"
    what = f"{resource.kind} {name}".rstrip()
    work.found("none" if status == "none" else "attention", what, resource.where, "", note)


def _setting(work: Work, key: str, node: Node) -> None:
    where = work.stack.keys[key].where
    if key == "server":
        _server(work, node)
    elif key == "vector_stores":
        _stores(work, node)
    elif key in table.SETTINGS:
        status, note = table.SETTINGS[key]
        work.found(status, key, where, "", note)
    elif key in table.RESOURCES and (node.value is None or (is_list(node) and not node.list)):
        return
    elif key != "registered_resources":
        known = (
            *table.SETTINGS,
            *table.RESOURCES,
            *table.SILENT,
            "models",
            "shields",
            "registered_resources",
            "server",
        )
        work.found("attention", key[:60], where, "", f"unknown key; left out.{did_you_mean(key, known)}")


def _server(work: Work, node: Node) -> None:
    for key, each in node.map.items():
        where, written = each.origin.where, text(each)
        what = f"server.{key}"
        if each.value is None:
            continue
        if key == "port" and written and env.usual(written).isdecimal() and int(env.usual(written)) <= 65535:
            value = int(written) if written.isdecimal() else env.modern(written)
            work.server["port"] = Field(value, place(where))
            work.found("mapped", what, where, "server.port")
        elif key == "port":
            work.found(
                "attention", what, where, "", "it is not known here; 8321 unless `--port` or `server.port` says else"
            )
        elif key == "host" and written and _address(env.usual(written)):
            work.server["host"] = Field(env.modern(written), place(where))
            work.found("mapped", what, where, "server.host")
        elif key == "auth":
            work.found("attention", what, where, "", "requests are not authenticated: put a proxy in front that does")
        elif key.startswith("tls"):
            work.found("none", what, where, "", "TLS ends before the server: put a proxy in front that does it")
        else:
            work.found("none", what, where, "", "there is no such setting")


def _address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _stores(work: Work, node: Node) -> None:
    """The settings that all stores share; the two default models have lines of their own."""
    placed: Mapping[str, str] = {
        "default_provider_id": "decides which store is active",
        "file_ingestion_params": "became `chunk` of the stores",
    }
    for key, each in node.map.items():
        what = f"vector_stores.{key}"
        if key in {"default_embedding_model", "default_reranker_model"}:
            continue
        if key == "file_ingestion_params" and not any("chunk" in entry.fields for entry in work.entries):
            work.found("attention", what, each.origin.where, "", "not carried over; `chunk` of a store has the same")
        elif key in placed:
            work.found("mapped", what, each.origin.where, "", placed[key])
        elif key == "chunk_retrieval_params":
            work.found(
                "attention", what, each.origin.where, "", "only default_search_mode became `search` of the stores"
            )
        else:
            work.found("none", what, each.origin.where, "", "there is no such setting")
