"""Globs over posix paths, as strings: what they match, and what braces stand for; it looks at no disk."""

from __future__ import annotations

import re

MAGIC = re.compile(r"[*?\[]")
"""What makes a path a glob."""
_BRACES = re.compile(r"\{([^{}]*)\}")


def translate(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over posix paths; ``**`` is any number of folders (Python 3.13's glob.translate)."""
    out = []
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern):
        if part == "**/":
            out.append("(?:[^/]+/)*")
        elif part == "**":
            out.append(".*")
        elif part in {"*", "?"}:
            out.append("[^/]*" if part == "*" else "[^/]")
        elif part.startswith("[") and len(part) > 2:
            inner = part[1:-1].replace("\\", "\\\\")
            out.append(f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out))


def expand(pattern: str) -> tuple[str, ...]:
    """Every spelling that ``{a,b}`` stands for, in order, as in a shell; braces in braces are not known."""
    match = _BRACES.search(pattern)
    if match is None:
        return (pattern,)
    tails = expand(pattern[match.end() :])
    return tuple(f"{pattern[: match.start()]}{choice}{tail}" for choice in match[1].split(",") for tail in tails)
