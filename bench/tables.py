"""Tables of what the retrieval group measured, as Markdown; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.contest import Result
from bench.figure import number
from bench.nearest import WIDTH, K
from bench.worded import Latency

_NOTES = f"""
Each engine runs in a process of its own with one thread and is asked in turns; peers with a knob are turned up until their
recall is ours. Ratios are to ours: above 1 the other needs more. **query**: CPU ms of one search for {K} neighbours, median,
95th percentile, and the median of wall ms. **cold**: opening and the first query in a fresh process whose imports are done,
the file's pages dropped from memory; **process**: the same from the start of the interpreter to its end, libraries in memory.
**build**: a whole process, from float32 vectors to the file; ours reads passages, clusters, tunes and verifies, and its file
holds passages and a full-text index beside the vectors, the others' hold vectors alone. **RSS** counts the pages of the file
that a process has mapped. The **limit** is what reading all vectors once costs at the memory bandwidth that was measured.
On a busy machine CPU time is what can be compared; wall time says how long one waited.
"""


@dataclass(frozen=True, slots=True)
class Vectors:
    """All engines over one corpus; ``bandwidth`` of memory in GB/s."""

    name: str
    count: int
    said: str
    bandwidth: float
    rows: Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Words:
    """Search by words and by both over one corpus."""

    name: str
    count: int
    said: str
    modes: Mapping[str, Latency]


def render(sections: Sequence[Vectors | Words]) -> str:
    """Growth first, then each corpus."""
    parts = ["# Retrieval, measured side by side", _NOTES.strip()]
    parts += _growth([section for section in sections if isinstance(section, Vectors)])
    for section in sections:
        if isinstance(section, Vectors):
            parts += [f"## {section.name}: {section.count} vectors", section.said, _engines(section)]
        else:
            parts += [f"## {section.name}: {section.count} passages by words", section.said, _worded(section)]
    return "\n\n".join(parts) + "\n"


def _growth(sections: Sequence[Vectors]) -> Iterator[str]:
    head = ("corpus", "vectors", "query CPU ms", "p95", "flat / ours", "recall@10", "lists", "probes", "build CPU s",
            "build MB", "file MB", "cold ms", "RSS MB")  # fmt: skip
    rows = [
        (
            section.name,
            str(section.count),
            number(mine.query_cpu_ms),
            number(mine.query_cpu_p95_ms),
            number(section.rows["flat"].query_cpu_ms / mine.query_cpu_ms),
            f"{mine.recall:.3f}",
            str(mine.facts.get("lists") or "exact"),
            str(mine.facts.get("probes") or "-"),
            *map(number, (mine.build_cpu_s, mine.build_mb, mine.file_mb, mine.cold_ms, mine.rss_mb)),
        )
        for section in sections
        for mine in (section.rows["ours"],)
    ]
    if rows:
        yield "## How our cost grows"
        yield _table(head, rows)


def _engines(section: Vectors) -> str:
    head = ("engine", "query / ours", "query CPU ms", "p95", "wall ms", "recall@10", "cold ms (CPU)",
            "process ms (CPU)", "build CPU s (wall)", "build MB", "file MB", "RSS MB")  # fmt: skip
    mine = section.rows["ours"]
    rows = [
        (
            f"{row.label} {row.effort}".rstrip(),
            number(row.query_cpu_ms / mine.query_cpu_ms),
            number(row.query_cpu_ms) + (f" ({row.queries} queries)" if row.queries < mine.queries else ""),
            number(row.query_cpu_p95_ms),
            number(row.query_wall_ms),
            f"{row.recall:.3f}",
            f"{number(row.cold_ms)} ({number(row.cold_cpu_ms)})",
            f"{number(row.start_ms)} ({number(row.start_cpu_ms)})",
            f"{number(row.build_cpu_s)} ({number(row.build_s)})",
            *map(number, (row.build_mb, row.file_mb, row.rss_mb)),
        )
        for row in section.rows.values()
    ]
    limit = section.count * WIDTH / 1e6 / section.bandwidth
    share = f"limit of a flat float32 scan at {section.bandwidth:.1f} GB/s"
    rows.append((share, number(limit / mine.query_cpu_ms), number(limit), *["-"] * 9))
    return _table(head, rows)


def _worded(section: Words) -> str:
    head = ("search", "peer / ours", "ours CPU ms", "p95", "naive CPU ms", "p95")
    rows = [
        (
            name.replace("_", ", "),
            *map(number, (each.peer / each.ours, each.ours, each.ours_p95, each.peer, each.peer_p95)),
        )
        for name, each in section.modes.items()
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
