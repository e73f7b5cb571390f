"""Compares what booted artifacts answered to the same questions, each with the first; it asks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsbuild.api import Manifest
from lsbuild.proving.answers import COSINE, Agreement, agree
from lsbuild.proving.examine import Boot

_OTHER_WEIGHTS = 0.96
"""The least cosine to vectors of the same model in other numbers (MiniLM: 8 bits and 4 bits are 0.966 apart)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One service at one place, and how its answer agrees with that at the place of reference."""

    service: str
    reference: str
    place: str
    agreement: Agreement


def compare(boots: Sequence[Boot]) -> tuple[Row, ...]:
    """Every service that the first of ``boots`` answered for, at every other that has it."""
    return tuple(row for other in boots[1:] for row in _rows(boots[0], other)) if boots else ()


def _rows(reference: Boot, other: Boot) -> Iterator[Row]:
    for (api, name), answer in reference.answers.items():
        if (api, name) in other.answers:
            exact, cosine, note = _measure(reference, other, api, name)
            found = agree(answer, other.answers[api, name], exact=exact, cosine=cosine)
            said = f"{found.said} ({note})" if note and found.said != "equal" else found.said
            yield Row(f"{api} {name}", reference.place, other.place, Agreement(found.ok, said))


def _measure(one: Boot, other: Boot, api: str, name: str) -> tuple[bool, float, str]:
    """Whether the answers have to be equal, how near vectors have to be, and a word on why they may differ."""
    if _data(one.manifest, api, name) != _data(other.manifest, api, name):
        return False, _OTHER_WEIGHTS, "other weights or documents"
    if one.arch != other.arch:
        return False, COSINE, "another processor"
    return True, COSINE, ""


def _data(manifest: Manifest, api: str, name: str) -> frozenset[tuple[str, str]]:
    """Path and hash of all data that a service and those it needs answer from."""
    by_key = {f"{each.api}/{each.name}": each for each in manifest.services}
    seen: set[str] = set()
    wanted = [f"{api}/{name}"]
    while wanted:
        key = wanted.pop()
        if key in by_key and key not in seen:
            seen.add(key)
            wanted += by_key[key].needs
    folders = tuple(f"{by_key[key].path}/" for key in seen if by_key[key].path)
    return frozenset((entry.path, entry.sha256) for entry in manifest.files if entry.path.startswith(folders))


def to_dict(rows: Sequence[Row]) -> list[dict[str, object]]:
    """For ``--json``."""
    return [
        {
            "service": row.service,
            "reference": row.reference,
            "place": row.place,
            "ok": row.agreement.ok,
            "agreement": row.agreement.said,
        }
        for row in rows
    ]


def to_text(rows: Sequence[Row]) -> str:
    """One table: services down, places across; what does not agree is marked."""
    places = list(dict.fromkeys(row.place for row in rows))
    cells = {(row.service, row.place): _cell(row.agreement) for row in rows}
    services = list(dict.fromkeys(row.service for row in rows))
    table = [[f"as {rows[0].reference}", *places]]
    table += [[service, *(cells.get((service, place), "-") for place in places)] for service in services]
    widths = [max(len(line[column]) for line in table) for column in range(len(places) + 1)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def _cell(agreement: Agreement) -> str:
    return agreement.said if agreement.ok else f"NOT THE SAME: {agreement.said}"
