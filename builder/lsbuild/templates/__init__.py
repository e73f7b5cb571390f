"""The projects that ``lsbuild init`` writes; a folder here is a template, copied as it is."""

from __future__ import annotations

from pathlib import Path

from lsbuild.errors import StoreError, TargetError

HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The templates there are."""
    return tuple(sorted(path.name for path in HERE.iterdir() if (path / "spec.yaml").is_file()))


def write(template: str, folder: Path) -> list[str]:
    """Copy ``template`` into ``folder``, which may exist but must not hold any of its files; returns what was written."""
    if template not in names():
        raise TargetError(f"there is no template {template!r}", hint=f"choose one of: {', '.join(names())}")
    source = HERE / template
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    taken = [str(folder / path) for path in files if (folder / path).exists()]
    if taken:
        raise StoreError(f"these files exist already: {', '.join(taken)}", hint="choose another folder")
    try:
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes((source / path).read_bytes())
    except OSError as error:
        raise StoreError(f"cannot write the project: {error.strerror}", where=str(folder)) from error
    return [str(path) for path in files]


def next_steps(folder: Path, written: list[str]) -> str:
    """What to tell the user after ``write``."""
    return "\n".join([f"wrote {', '.join(written)} in {folder}", f"next: lsbuild run {folder / 'spec.yaml'}"])
