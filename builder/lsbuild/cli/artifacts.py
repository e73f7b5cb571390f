"""Commands that look at artifacts: what is inside, whether they answer, what their stores hold."""

from __future__ import annotations

from pathlib import Path

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, output_options


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--treemap", metavar="FILE", type=click.Path(path_type=Path), help="Also draw what takes the room, as an SVG."
)
@output_options
def inspect(artifact: Path, treemap: Path | None, out: Output) -> None:
    """List the components, sizes, hashes and routes of ARTIFACT."""
    from lsbuild import inspection

    found = inspection.inspect(artifact)
    if treemap:
        from lsbuild.treemap import svg

        treemap.write_text(svg(found.manifests[0]), encoding="utf-8")
    out.give(inspection.to_dict(found), lambda: inspection.to_text(found))


@main.command()
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="ARTIFACT", type=click.Path(path_type=Path), help="Compare the answers with those of this one."
)
@click.option("--strict", is_flag=True, help="Fail also when something was skipped.")
@output_options
def verify(artifacts: tuple[Path, ...], against: Path | None, strict: bool, out: Output) -> None:
    """Boot each ARTIFACT as its target would, ask it real questions, and compare the answers."""
    from lsbuild import verify as verifying
    from lsbuild.proving.examine import Examination

    silent = out.as_json or out.quiet

    def begins(each: Examination) -> None:
        if not silent and (against or len(artifacts) > 1):
            click.echo(f"\n{each.found.path} ({each.found.target.name})")

    found = verifying.verify(([against] if against else []) + list(artifacts), begins, out.check)
    fault = verifying.fault(found, strict=strict)
    out.give({**verifying.to_dict(found), "ok": fault is None}, lambda: verifying.to_text(found))
    out.end(fault)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path), help="State folder of its server. [default: as the server's]")
@output_options
def compact(artifact: Path, state: Path | None, out: Output) -> None:  # noqa: ARG001 - the artifact itself answers
    """Fold what was added to the mutable stores of ARTIFACT into their indexes.

    A server may run meanwhile; it folds by itself when it is idle.
    """
    from lsbuild import build as building

    building.compact(artifact, state=state)
