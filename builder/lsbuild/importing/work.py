"""What an import has found and drafted so far: the one place that collects; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from lsbuild.importing.draft import Draft, Entry, Field
from lsbuild.importing.names import name_of
from lsbuild.importing.stack import Stack
from lsbuild.importing.table import Status


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one provider, resource or setting of the file.

    ``status`` is ``mapped``, ``default`` (served anyway), ``attention`` (mapped, but look at it) or ``none``;
    ``became`` is the path in the spec, or "".
    """

    status: Status
    what: str
    where: str
    became: str = ""
    note: str = ""


@dataclass(slots=True)
class Work:
    """One import under way; one use."""

    stack: Stack
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    params: dict[str, Field] = field(default_factory=dict)
    server: dict[str, Field] = field(default_factory=dict)

    def name(self, section: str, text: str) -> str:
        """A free name of ``section`` for the id ``text``."""
        return name_of(text, {entry.name for entry in self.entries if entry.section == section})

    def add(self, entry: Entry) -> str:
        """Take an entry; returns its path in the spec."""
        self.entries.append(entry)
        return f"{entry.section}.{entry.name}"

    def found(self, status: Status, what: str, where: str, became: str = "", note: str = "") -> None:
        """Take a line of the report."""
        self.findings.append(Finding(status, what, where, became, note))

    def active(self, section: str, **values: str) -> list[Entry]:
        """The entries of ``section`` that are switched on and hold these ``values``."""
        return [
            entry
            for entry in self.entries
            if entry.section == section
            and entry.active
            and all(entry.fields.get(key, Field("")).value == value for key, value in values.items())
        ]

    def draft(self) -> Draft:
        """The spec as far as it is."""
        name = name_of(self.stack.name, ())
        return Draft(name, tuple(self.entries), dict(self.params), dict(self.server))


def place(where: str) -> str:
    """``12:5`` of ``folder/run.yaml:12:5``: a spec names no folder of the machine that wrote it."""
    return ":".join(where.rsplit(":", 2)[1:])


def told(*notes: str) -> str:
    """Notes as one line."""
    return "; ".join(note for note in notes if note)
