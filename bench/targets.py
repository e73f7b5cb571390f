"""``python -m bench.targets [--write README.md] [TARGET...]``: builds the quickstart for every target, verifies all of them
together, and prints a row of Markdown for each; it measures nothing that ``lsbuild verify`` does not.

With ``--write`` the rows take the place of those between the two marks in the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "examples" / "quickstart" / "spec.yaml"
OUT = ROOT / "build" / "targets"
TARGETS = ("host", "container", "lambda", "rpi", "jetson")
BEGIN, END = "<!-- make targets -->", "<!-- end of make targets -->"
_HEAD = "| target | what is sent | proved | cold start | skipped here | not proved |\n|---|---|---|---|---|---|"
_HOW = re.compile(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)$")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when every artifact was built and nothing that was looked at is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.targets", description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the rows between the marks in this file")
    chosen = parser.parse_args(arguments)
    built = {target: _built(target) for target in chosen.targets}
    for target, report in built.items():
        if not report["ok"]:
            print(f"{target}: not built: {report['error']['message']}", file=sys.stderr)
    standing = {target: report for target, report in built.items() if report["ok"]}
    found = _lsbuild("verify", *(str(OUT / target) for target in standing), "--json")
    if "error" in found:
        print(f"not verified: {found['error']['message']}", file=sys.stderr)
        return 1
    text = table(standing, found)
    print(text)
    for check in found["checks"]:
        if not check["ok"]:
            print(f"{check['artifact']}: {check['name']}: {check['detail']}", file=sys.stderr)
    if chosen.write:
        write(chosen.write, text)
    return 0 if found["ok"] and len(standing) == len(built) else 1


def table(reports: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """The rows of built targets (their reports by name) with what ``lsbuild verify --json`` found, and when and where."""
    rows = [
        _row(target, report, _of(target, found["checks"]), _of(target, found["boots"]))
        for target, report in reports.items()
    ]
    machine = describe()
    where = f"{machine.cores} cores of {machine.cpu}, load {machine.load:.1f}, {datetime.datetime.now(datetime.UTC):%d %B %Y}"
    return "\n".join([_HEAD, *rows, "", f"{_agreed(found['agreement'])} Measured on {where}."])


def write(path: Path, text: str) -> None:
    """Put ``text`` between the marks of ``path``. SystemExit when it has none."""
    whole = path.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _built(target: str) -> dict[str, Any]:
    return _lsbuild("--target", target, str(SPEC), "-o", str(OUT / target), "--json")


def _lsbuild(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "lsbuild", *words], capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"ok": False, "error": {"message": done.stderr.strip()[-400:] or f"exit code {done.returncode}"}}
    return found


def _of(target: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if Path(row["artifact"]).name == target]


def _row(
    target: str, report: Mapping[str, Any], checks: Sequence[Mapping[str, Any]], boots: Sequence[Mapping[str, Any]]
) -> str:
    packed = report["artifact"]["packed"] or {report["artifact"]["media"]: report["artifact"]["size"]}
    sent = "; ".join(f"{_short(name)} {size / 1e6:.1f} MB" for name, size in packed.items())
    proved = sum(check["state"] == "proved" for check in checks)
    how = "; ".join(dict.fromkeys(_hows(checks))) or "files only"
    failed = [f"FAILED {check['name']}" for check in checks if check["state"] == "failed"]
    cold = [
        f"{boot['cold_start_ms']:.0f} CPU-ms, {boot['memory'] / 1e6:.0f} MB" for boot in boots if boot["cold_start_ms"]
    ]
    skipped = _details(checks, "skipped", lambda check: f"{check['name']}: {check['detail'].partition(';')[0]}")
    unproved = _details(checks, "unproved", lambda check: check["detail"])
    cells = [f"`{target}`", sent, f"{proved} checks; booted: {how}", cold[0] if cold else "-", skipped, unproved]
    return f"| {' | '.join([*cells[:2], '; '.join([cells[2], *failed]), *cells[3:]])} |"


def _hows(checks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """How each boot was done, which its check says in brackets."""
    for check in checks:
        if check["state"] == "proved" and check["name"].endswith("boot"):
            match = _HOW.search(check["detail"])
            yield match[1] if match else "by its own `run`"
        elif check["name"] == "emulator: function URL":
            yield "under AWS's Runtime Interface Emulator"


def _details(checks: Iterable[Mapping[str, Any]], state: str, said: Any) -> str:
    """What checks of that state say, each once; questions that are never asked and the emulated clock are no news."""
    found = [said(check) for check in checks if check["state"] == state and not check["detail"].startswith("not ")]
    return "; ".join(dict.fromkeys(found)) or "-"


def _short(name: str) -> str:
    """A file's name without what is the same everywhere."""
    return f".{name.partition('.')[2].rpartition('arm64.')[2]}" if name.startswith("lsbuild-") else name


def _agreed(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on how the answers agree."""
    if not rows:
        return ""
    places = list(dict.fromkeys(row["place"] for row in rows))
    equal = sum(row["agreement"] == "equal" for row in rows)
    cosines = [float(match[1]) for row in rows if (match := re.match(r"cosine ([\d.]+)", row["agreement"]))]
    others = [f"{row['service']} of {row['place']} {row['agreement']}" for row in rows
              if row["agreement"] != "equal" and not row["agreement"].startswith("cosine")]  # fmt: skip
    said = f"The same questions, asked of {rows[0]['reference']} and {', '.join(places)}: {equal} answers are equal"
    said += f", vectors have a cosine of at least {min(cosines):.5f}" if cosines else ""
    return f"{said}; {'; '.join(others)}." if others else f"{said}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
