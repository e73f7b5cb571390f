"""Chooses Debian packages: index text and a wish list in, the closed set of packages out; it reads no disk and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from debian.deb822 import Deb822, PkgRelation
from debian.debian_support import NativeVersion

from lsbuild.errors import SourceError


@dataclass(frozen=True, slots=True)
class Package:
    """One .deb of the archive: ``path`` below the mirror (``pool/main/...``), hash and size; ``needs`` are alternatives."""

    name: str
    version: str
    path: str
    sha256: str
    size: int
    needs: tuple[tuple[str, ...], ...] = ()


class Index:
    """The ``Packages`` files of one architecture, merged: of two versions of a name the higher one counts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._stanzas: dict[str, list[str]] = {}
        self._providers: dict[str, set[str]] = {}
        for text in texts:
            for stanza in text.split("\n\n"):
                self._add(stanza.strip("\n"))

    def _add(self, stanza: str) -> None:
        # 70,000 stanzas: only those that are asked for are parsed, here two fields are cut out.
        name = _field(stanza, "Package")
        if name:
            self._stanzas.setdefault(name, []).append(stanza)
            for provided in _field(stanza, "Provides").split(","):
                self._providers.setdefault(provided.split("(")[0].strip(), set()).add(name)

    def package(self, name: str) -> Package | None:
        """The newest package of that very name."""
        found = [_parse(stanza) for stanza in self._stanzas.get(name, ())]
        return max(found, key=lambda package: NativeVersion(package.version), default=None)

    def provider(self, name: str) -> Package | None:
        """The package of that name, or the alphabetically first one that provides it."""
        providers = sorted(self._providers.get(name, ()))
        return self.package(name) or (self.package(providers[0]) if providers else None)


def closure(index: Index, wanted: Sequence[str], without: frozenset[str]) -> tuple[Package, ...]:
    """``wanted`` and everything they depend on, by name; packages in ``without`` and what only they need are left out.

    Of alternatives the first that exists is taken, unless another is chosen already. Version bounds are not checked:
    all packages are the newest of one suite. Raises SourceError naming a package that the index does not have.
    """
    chosen: dict[str, Package] = {}
    queue: list[tuple[tuple[str, ...], str]] = [((name,), "the target") for name in wanted]
    while queue:
        alternatives, asker = queue.pop(0)
        if without.intersection(alternatives) or chosen.keys() & set(alternatives):
            continue
        package = next((found for name in alternatives if (found := index.provider(name))), None)
        if package is None:
            raise SourceError(
                f"no package {' | '.join(alternatives)!r}, which {asker} needs",
                hint="check the name and the suite; `apt-cache policy NAME` shows what a machine of that suite has",
            )
        if package.name not in chosen and package.name not in without:
            chosen[package.name] = package
            queue.extend((need, package.name) for need in package.needs)
    return tuple(chosen[name] for name in sorted(chosen))


def _field(stanza: str, name: str) -> str:
    start = 0 if stanza.startswith(f"{name}: ") else stanza.find(f"\n{name}: ") + 1
    if start == 0 and not stanza.startswith(f"{name}: "):
        return ""
    end = stanza.find("\n", start)
    return stanza[start + len(name) + 2 : end if end >= 0 else None]


def _parse(stanza: str) -> Package:
    fields: Mapping[str, str] = Deb822(stanza)
    try:
        return Package(
            name=fields["Package"],
            version=fields["Version"],
            path=fields["Filename"],
            sha256=fields["SHA256"].lower(),
            size=int(fields["Size"]),
            needs=tuple(
                tuple(str(alternative["name"]) for alternative in group)
                for key in ("Pre-Depends", "Depends")
                if fields.get(key)
                for group in PkgRelation.parse_relations(fields[key])
            ),
        )
    except (KeyError, ValueError) as error:
        raise SourceError(f"the package index has a stanza without a usable {error}: {stanza[:80]!r}") from error
