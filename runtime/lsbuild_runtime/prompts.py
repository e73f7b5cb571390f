"""Prompts with versions: those of the artifact, which nobody changes, and those that clients keep in the state folder.

A prompt is a text with places, ``{{name}}``; ``render`` fills them for whoever answers a request that names a prompt.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.database import Database, Schema
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ids import new_id

if TYPE_CHECKING:
    from apsw import Connection

    from lsbuild_runtime.manifest import Service
    from lsbuild_runtime.ports import Host
    from lsbuild_runtime.routing import Site

FILE_NAME = "prompt.txt"
"""The file in the folder of a prompt of the artifact."""
_API, _FOLDER, _DATABASE = "prompts", "prompts", "prompts.sqlite"
_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
SCHEMA = Schema(
    "the prompts",
    """
CREATE TABLE prompts(
    id TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, variables TEXT NOT NULL, is_default INTEGER NOT NULL,
    PRIMARY KEY(id, version)
) STRICT;
""",
)
_DEFAULTS = """WHERE is_default = 1 ORDER BY
    (SELECT first.rowid FROM prompts AS first WHERE first.id = prompts.id AND first.version = 1)"""
_COLUMNS = "id, version, text, variables, is_default"


class Prompt(Struct, frozen=True):
    """One version of a prompt, counted from 1. ``variables`` are the names of its places, and more if it says so."""

    id: str
    version: int
    text: str
    variables: tuple[str, ...]
    is_default: bool


class TextValue(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """A value in the form of an input's content."""

    text: str


class PromptRef(Struct, forbid_unknown_fields=True):
    """A prompt in a request, as OpenAI's Responses API has it: without a version it is the default one."""

    id: str
    version: str | None = None
    variables: dict[str, str | TextValue] | None = None


def render(site: Site, ref: PromptRef, param: str = "prompt") -> str:
    """The text of ``ref`` with its places filled; ApiError 404 for an unknown prompt, 400 that names a wrong variable.

    A value is put in as it is: what looks like a place inside it stays text.
    """
    if ref.version is not None and not (ref.version.isascii() and ref.version.isdigit() and len(ref.version) < 10):
        raise _refused(f"{param}.version", f"expected a number, got {ref.version[:20]!r}")
    prompt = site.kept(Prompts).get(ref.id, None if ref.version is None else int(ref.version))
    given = ref.variables or {}
    if unknown := sorted(given.keys() - set(prompt.variables)):
        raise _refused(
            f"{param}.variables.{unknown[0][:64]}", f"this prompt has no such variable; it has {_list(prompt)}"
        )
    if missing := [name for name in variables_of(prompt.text) if name not in given]:
        raise _refused(f"{param}.variables.{missing[0]}", "this variable is required", "missing_required_parameter")
    values = {name: value if isinstance(value, str) else value.text for name, value in given.items()}
    return _PLACE.sub(lambda match: values[match[1]], prompt.text)


def variables_of(text: str) -> tuple[str, ...]:
    """The names of the places of a text, each once, in order."""
    return tuple(dict.fromkeys(match[1] for match in _PLACE.finditer(text)))


def declared(text: str, variables: Sequence[str] | None) -> tuple[str, ...]:
    """The variables of a prompt: as declared, which must be all that the text has, or those of the text."""
    places = variables_of(text)
    if variables is None:
        return places
    for index, name in enumerate(variables):
        if not _VARIABLE.fullmatch(name):
            raise _refused(
                f"variables[{index}]", "a name is letters, digits and _, at most 64, and begins with no digit"
            )
        if name in variables[:index]:
            raise _refused(f"variables[{index}]", f"{name!r} is named twice")
    if missing := [name for name in places if name not in variables]:
        raise _refused("variables", f"the text has {{{{{missing[0][:64]}}}}}, which is not among them")
    return tuple(variables)


def open_prompt(service: Service, root: Path, host: Host) -> Prompt:  # noqa: ARG001 - the shape of every entry
    """The entry for services of the API ``prompts``: version 1, which is all there is."""
    text = (root / service.path / FILE_NAME).read_text(encoding="utf-8")
    return Prompt(service.name, 1, text, declared(text, service.config.get("variables")), is_default=True)


class Prompts:
    """All prompts of a server. Safe for use from several threads; opens no database before there is one to read."""

    def __init__(self, site: Site) -> None:
        self._services = site.services
        self._opening = threading.Lock()
        self._opened: Database | None = None

    def listing(self) -> list[Prompt]:
        """The default version of each: those of the artifact by name, then those of clients, oldest first."""
        baked = [self._baked(name) for name in sorted(each.name for each in self._services if each.api == _API)]
        return [*baked, *self._rows(_DEFAULTS)]

    def get(self, prompt_id: str, version: int | None = None) -> Prompt:
        """One version, or the default one; ApiError 404 when there is none."""
        if self._is_baked(prompt_id):
            found = self._baked(prompt_id) if version in (None, 1) else None
        else:
            wanted = "is_default = 1" if version is None else f"version = {version:d}"
            found = next(self._rows(f"WHERE id = ? AND {wanted}", prompt_id), None)
        if found is None:
            raise not_found(prompt_id, version)
        return found

    def versions(self, prompt_id: str) -> list[Prompt]:
        """All versions, oldest first; ApiError 404 when there is no such prompt."""
        if self._is_baked(prompt_id):
            return [self._baked(prompt_id)]
        found = list(self._rows("WHERE id = ? ORDER BY version", prompt_id))
        if not found:
            raise not_found(prompt_id)
        return found

    def create(self, text: str, variables: Sequence[str] | None) -> Prompt:
        """Keep a new prompt, as version 1."""
        prompt = Prompt(new_id("pmpt_", 24), 1, text, declared(text, variables), is_default=True)
        with self._database().writing() as db:
            _insert(db, prompt)
        return prompt

    def update(
        self, prompt_id: str, latest: int, text: str, variables: Sequence[str] | None, *, set_as_default: bool
    ) -> Prompt:
        """Keep a new version after ``latest``; ApiError 400 when that is not the latest one any more."""
        self._changeable(prompt_id)
        names = declared(text, variables)
        with self._database().writing() as db:
            newest: Any = db.execute("SELECT max(version) FROM prompts WHERE id = ?", (prompt_id,)).get
            if newest is None:
                raise not_found(prompt_id)
            if newest != latest:
                raise _refused("version", f"the latest version is {newest}, not {latest}; somebody changed the prompt")
            prompt = Prompt(prompt_id, latest + 1, text, names, is_default=False)
            _insert(db, prompt)
            if set_as_default:
                prompt = _prefer(db, prompt)
        return prompt

    def set_default(self, prompt_id: str, version: int) -> Prompt:
        """Make a version the one that is used when none is named."""
        self._changeable(prompt_id)
        prompt = self.get(prompt_id, version)
        with self._database().writing() as db:
            return _prefer(db, prompt)

    def delete(self, prompt_id: str) -> None:
        """Delete a prompt with all its versions."""
        self._changeable(prompt_id)
        self.get(prompt_id)
        with self._database().writing() as db:
            db.execute("DELETE FROM prompts WHERE id = ?", (prompt_id,))

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()

    def _is_baked(self, prompt_id: str) -> bool:
        return self._services.find((_API,), prompt_id) is not None

    def _baked(self, name: str) -> Prompt:
        prompt: Prompt = self._services.get(_API, name)
        return prompt

    def _changeable(self, prompt_id: str) -> None:
        if self._is_baked(prompt_id):
            where = f"it is part of the artifact; change prompts.{prompt_id} in the spec and build again"
            raise _refused("prompt_id", f"this prompt is read-only: {where}", "prompt_read_only")

    def _rows(self, where: str, *values: str) -> Iterator[Prompt]:
        """What the database has; nothing where none was made, for looking must not make one."""
        if not all(map(str.isascii, values)):  # no id of ours, and half a surrogate pair is nothing to ask SQLite
            return
        if not self._services.keeps(f"{_FOLDER}/{_DATABASE}"):
            return
        with self._database().reading() as db:
            rows: list[Any] = db.execute(f"SELECT {_COLUMNS} FROM prompts {where}", values).fetchall()  # noqa: S608
        for prompt_id, version, text, variables, is_default in rows:
            yield Prompt(prompt_id, version, text, tuple(msgspec.json.decode(variables)), bool(is_default))

    def _database(self) -> Database:
        with self._opening:
            if self._opened is None:
                self._opened = Database(self._services.state(_FOLDER) / _DATABASE, SCHEMA)
            return self._opened


def not_found(prompt_id: str, version: int | None = None) -> ApiError:
    """The 404 for an unknown prompt or version."""
    which = "" if version is None else f" with version {version}"
    message = f"no prompt {prompt_id[:100]!r}{which}; GET /v1/prompts lists them"
    return ApiError(404, message, code="prompt_not_found")


def _insert(db: Connection, prompt: Prompt) -> None:
    values = (prompt.id, prompt.version, prompt.text, msgspec.json.encode(prompt.variables).decode(), prompt.is_default)
    db.execute(f"INSERT INTO prompts({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", values)  # noqa: S608


def _prefer(db: Connection, prompt: Prompt) -> Prompt:
    values: Mapping[str, Any] = {"id": prompt.id, "version": prompt.version}
    db.execute("UPDATE prompts SET is_default = (version = :version) WHERE id = :id", values)
    return replace(prompt, is_default=True)


def _list(prompt: Prompt) -> str:
    return ", ".join(prompt.variables[:5]) or "none"


def _refused(param: str, why: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{param}: {why}", param=param, code=code)
