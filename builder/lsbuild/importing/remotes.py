"""The settings of an inference provider as those of ``remote::openai``: URL, key, headers; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lsbuild.importing import env, table
from lsbuild.importing.draft import Field
from lsbuild.importing.names import variable_of
from lsbuild.importing.stack import Provider, text
from lsbuild.importing.table import REMOTES
from lsbuild.importing.work import place
from lsbuild.spec.marks import Node


@dataclass(frozen=True, slots=True)
class Settings:
    """``config`` of the models of one provider, and what the user has to know of it."""

    config: Mapping[str, Field]
    notes: tuple[str, ...] = ()


def settings(provider: Provider) -> Settings:
    """What ``provider``'s config becomes; its type is a key of ``table.REMOTES``."""
    notes: list[str] = []
    config = {"base_url": _url(provider, notes)}
    # Two providers of one type have two keys: the usual variable is for the one that is called like its type.
    usual = REMOTES[provider.type].key if provider.type.endswith(f"::{provider.id}") else ""
    used = {key for key in table.URL_KEYS if key in provider.config.map}
    for key in provider.config.map:
        if key in table.SECRET_KEYS or key.endswith("_api_key"):
            used.add(key)
            secret = secret_of(provider.config.map[key], provider.id, usual, notes)
            if secret is not None and "api_key" not in config:
                config["api_key"] = secret
    headers = _headers(provider, notes, used)
    if headers:
        config["headers"] = Field(headers)
    rest = [key for key in provider.config.map if key not in {*used, *table.HANDLED_KEYS}]
    if rest:
        notes.append(f"not carried over: {', '.join(rest)}")
    return Settings(config, tuple(notes))


def upstream_model(provider: Provider, model_id: str) -> Field:
    """The model's name at ``provider``, without the prefix of releases before 0.3 (which knew no ``base_url``)."""
    written = env.modern(model_id)
    prefix = table.PREFIXED.get(provider.type, "")
    old = prefix and "base_url" not in provider.config.map and not written.startswith("groq/compound")
    if old and written.startswith(prefix) and len(written) > len(prefix):
        return Field(written.removeprefix(prefix), f"{prefix} was a prefix of old releases")
    return Field(written)


def secret_of(node: Node, owner: str, usual: str, notes: list[str]) -> Field | None:
    """``{secret: NAME}`` for a key, whatever form it has; a key in clear text is never copied. None when none is needed."""
    written = text(node)
    if written is None and node.value is not None:
        notes.append(f"not carried over: what stands in line {place(node.origin.where)} is not a text")
    if written is None or written.strip().lower() in table.PLACEHOLDERS:
        return None
    found = env.whole(written)
    if found is not None and found.kind != "if_set":
        if found.word.lower() not in table.PLACEHOLDERS:
            notes.append(f"the default of {found.variable} stands in the file in clear text; it was not copied")
        return _secret(found.variable, f"{place(node.origin.where)}; has to be set where the artifact runs")
    name = usual or variable_of(owner, "api_key")
    notes.append(f"a key stands in the file in clear text (line {place(node.origin.where)}); set {name} instead")
    return _secret(name, f"{place(node.origin.where)} held it in clear text")


def _secret(name: str, comment: str) -> Field:
    return Field({"secret": Field(name)}, comment)


def _url(provider: Provider, notes: list[str]) -> Field:
    remote = REMOTES[provider.type]
    nodes = [provider.config.map[key] for key in table.URL_KEYS if key in provider.config.map]
    node = next((each for each in nodes if text(each)), None)
    written = (text(node) or "").strip()
    found = env.whole(written)
    if node is None:
        return Field(remote.url, f"usual for {provider.type}") if remote.url else _asked(provider, notes)
    if found is not None and not found.word and found.kind != "if_set":
        if found.kind == "default" and remote.url:
            return Field(f"${{env.{found.variable}:={remote.url}}}", place(node.origin.where))
        notes.append(f"{found.variable} has to hold the whole URL, with its /v1")
        return Field(f"${{env.{found.variable}}}", f"{place(node.origin.where)}; the whole URL, with its /v1")
    clean = re.sub(r"[?#][^{}]*", "", re.sub(r"://[^/@]*@", "://", written))
    if clean != written:
        notes.append("user, password or query of the URL were not copied")
    usual = env.usual(clean)
    if not _is_url(usual):
        return _asked(provider, notes)
    modern = re.sub(r"/+(\}?)$", r"\1", env.modern(clean))
    if urlsplit(usual).path in {"", "/"}:
        modern += remote.suffix
    return Field(modern, place(node.origin.where))


def _asked(provider: Provider, notes: list[str]) -> Field:
    name = variable_of(provider.id, "base_url")
    notes.append(f"no URL that can be used; set {name}")
    return Field(f"${{env.{name}}}", "the whole URL, with its /v1")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _headers(provider: Provider, notes: list[str], used: set[str]) -> dict[str, Field]:
    """Headers, each by the variable that holds it: their values are as good as keys."""
    network = provider.config.map.get("network")
    below = network.map.get("headers") if network is not None else None
    found: dict[str, Field] = {}
    for node in (provider.config.map.get("headers"), below):
        for key, each in (node.map if node is not None else {}).items():
            secret = secret_of(each, provider.id, variable_of(provider.id, key), notes)
            if secret is not None:
                found[key] = secret
    if "headers" in provider.config.map:
        used.add("headers")
    return found
