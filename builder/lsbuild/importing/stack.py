"""A run.yaml of Llama Stack or a config.yaml of OGX as typed values with their places; it maps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsbuild.errors import Problem, SpecError
from lsbuild.importing import env, table
from lsbuild.spec import marks
from lsbuild.spec.load import in_order, text_of
from lsbuild.spec.marks import Node, Origin, is_list
from lsbuild.spec.words import found_words
from lsbuild.suggest import did_you_mean

DISABLED = "__disabled__"
_RESOURCES = ("models", "shields", "vector_stores", "vector_dbs", *table.RESOURCES)
_KIND = "a run.yaml of Llama Stack or a config.yaml of OGX"
_ENTRY = ("provider_id", "provider_type", "config")


@dataclass(frozen=True, slots=True)
class Provider:
    """One entry under ``providers``. ``conditions`` are the variables that switch it on; ``off`` says it is off without."""

    api: str
    id: str
    type: str
    config: Node
    where: str
    conditions: tuple[str, ...] = ()
    off: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One entry of a list such as ``models``."""

    kind: str
    node: Node

    @property
    def where(self) -> str:
        """Its place."""
        return self.node.origin.where

    def text(self, *keys: str) -> str | None:
        """The first text or number under ``keys``, as it is written."""
        return next((found for key in keys if (found := text(self.node.map.get(key))) is not None), None)


@dataclass(frozen=True, slots=True)
class Stack:
    """The whole file; ``settings`` are top-level keys that are no list of resources."""

    path: Path
    name: str
    providers: tuple[Provider, ...]
    resources: tuple[Resource, ...]
    settings: Mapping[str, Node]
    keys: Mapping[str, Origin] = field(default_factory=dict)

    def of(self, *kinds: str) -> Iterator[Resource]:
        """The resources of these kinds."""
        return (each for each in self.resources if each.kind in kinds)


def text(node: Node | None) -> str | None:
    """A scalar as text; None for nothing, maps and lists."""
    if node is None or isinstance(node.value, bool) or not isinstance(node.value, str | int | float):
        return None
    return str(node.value)


def read(path: Path) -> Stack:
    """Read the file at ``path``. SpecError with every fault and its place when it is not such a file."""
    problems: list[Problem] = []
    tree = marks.parse(text_of(path), str(path), problems)
    if not isinstance(tree.value, Mapping):
        raise SpecError([*problems, Problem((), f"expected {_KIND}, found {found_words(tree)}", tree.origin.where)])
    problems += _other_file(tree)
    problems += _version(tree)
    providers = _providers(tree, problems)
    resources = _resources(tree, problems)
    if problems:
        raise SpecError(in_order(problems))
    listed = {"registered_resources", *(each.kind for each in resources)}
    settings = {key: node for key, node in tree.map.items() if key not in listed and not _empty_list(key, node)}
    name = text(tree.map.get("distro_name")) or text(tree.map.get("image_name")) or "distribution"
    return Stack(path, env.usual(name), providers, resources, settings, tree.keys)


def _empty_list(key: str, node: Node) -> bool:
    return key in _RESOURCES and (is_list(node) or node.value is None)


def _other_file(tree: Node) -> Iterator[Problem]:
    """Files that are something else, each in its own words."""
    if "providers" in tree.map:
        return
    message = f"there is no `providers`: this is not {_KIND}."
    if "distribution_spec" in tree.map:
        message = f"this is a build.yaml, which names no models; give {_KIND}"
    elif isinstance(tree.map.get("models", tree).value, Mapping) and "models" in tree.map:
        message = "this is a spec already; compile it with `lsbuild spec.yaml`"
    else:
        near = [key for key in tree.map if "Did you mean" in did_you_mean(key, ["providers"])]
        message += f" Did you mean 'providers' where it says '{near[0][:40]}'?" if near else ""
    yield Problem((), message, tree.origin.where)


def _version(tree: Node) -> Iterator[Problem]:
    node = tree.map.get("version")
    if node is not None and text(node) not in {None, "2"} and "providers" in tree.map:
        yield Problem(("version",), f"version {found_words(node)} is not known; 2 is", node.origin.where)


def _providers(tree: Node, problems: list[Problem]) -> tuple[Provider, ...]:
    section = tree.map.get("providers")
    if section is None or section.value is None:
        return ()
    if not isinstance(section.value, Mapping):
        problems.append(Problem(("providers",), f"expected a map, found {found_words(section)}", section.origin.where))
        return ()
    found = []
    for api, entries in section.map.items():
        path: marks.Path = ("providers", api)
        if entries.value is not None and not is_list(entries):
            problems.append(Problem(path, f"expected a list, found {found_words(entries)}", entries.origin.where))
        for index, node in enumerate(entries.list):
            provider = _provider(api, node, (*path, index), problems)
            found += [provider] if provider else []
    return tuple(found)


def _provider(api: str, node: Node, path: marks.Path, problems: list[Problem]) -> Provider | None:
    if not isinstance(node.value, Mapping):
        problems.append(Problem(path, f"expected a map, found {found_words(node)}", node.origin.where))
        return None
    kind, written = text(node.map.get("provider_type")), text(node.map.get("provider_id"))
    config = node.map.get("config") or Node({}, node.origin)
    if config.value is not None and not isinstance(config.value, Mapping):
        fault = f"expected a map, found {found_words(config)}"
        problems.append(Problem((*path, "config"), fault, config.origin.where))
    for key, value in (("provider_type", kind), ("provider_id", written)):
        if value is None and (key == "provider_type" or key in node.map):
            near = next((each for each in node.map if each not in _ENTRY and _near(each, key)), "")
            hint = f" Did you mean '{key}' where it says '{near[:40]}'?" if near else ""
            problems.append(Problem((*path, key), f"missing text '{key}'.{hint}", node.origin.where))
    if kind is None:
        return None
    shown = env.usual(written) if written else ""
    off = shown == DISABLED or (written is not None and not shown)
    tail = kind.rpartition("::")[2]
    name = tail if off or not shown else shown
    return Provider(api, name, env.usual(kind), config, node.origin.where, env.conditions(written or ""), off)


def _near(word: str, key: str) -> bool:
    return "Did you mean" in did_you_mean(word, [key])


def _resources(tree: Node, problems: list[Problem]) -> tuple[Resource, ...]:
    registered = tree.map.get("registered_resources")
    sections = [(("registered_resources",), registered)] if registered is not None else []
    found: list[Resource] = []
    for base, section in [((), tree), *sections]:
        for kind in section.map:
            node = section.map[kind]
            if not is_list(node):
                if base and node.value is not None:
                    fault = f"expected a list, found {found_words(node)}"
                    problems.append(Problem((*base, kind), fault, node.origin.where))
                continue
            if not base and kind not in _RESOURCES:
                continue
            for index, each in enumerate(node.list):
                if isinstance(each.value, Mapping):
                    found.append(Resource(kind, each))
                else:
                    fault = f"expected a map, found {found_words(each)}"
                    problems.append(Problem((*base, kind, index), fault, each.origin.where))
    return tuple(found)
