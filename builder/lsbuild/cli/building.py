"""Commands that read a spec: compile, serve, plan, show, measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, order_of, output_options, spec_options


@main.command()
@spec_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write. [default: build/NAME-TARGET]")
@click.option("--prove", is_flag=True, help="Verify the artifact at once, and hold budgets.cold_start.")
@output_options
def build(spec: Path, output: Path | None, prove: bool, out: Output, **order: Any) -> None:
    """Compile SPEC into an artifact (the default command)."""
    from lsbuild import build as building
    from lsbuild import report as reports
    from lsbuild import verify as verifying

    with out.monitor() as monitor:
        report = building.build(order_of(spec, **order), output, monitor)
    told = reports.to_dict(report)
    if not prove:
        out.give({"ok": True, **told}, lambda: reports.to_text(report))
        return
    if not (out.as_json or out.quiet):
        click.echo(f"{reports.to_text(report)}\n")
    found = verifying.verify([report.artifact.path], told=out.check)
    body = verifying.to_dict(found)
    out.give({"ok": body["ok"], **told, "verified": body}, lambda: verifying.to_text(found))
    out.end(verifying.fault(found))


@main.command()
@spec_options
@click.option("--host", help="Address to listen on. [default: the spec's]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@output_options
def run(spec: Path, host: str | None, port: int | None, out: Output, **order: Any) -> None:
    """Compile SPEC for this machine and serve it until Ctrl-C."""
    from lsbuild import build as building

    if order["target"] != "host":
        raise click.UsageError("`lsbuild run` serves on this machine: leave --target out")
    with out.monitor() as monitor:
        report = building.build(order_of(spec, **order), None, monitor)
    building.serve(report.artifact.path, host=host, port=port)


@main.command()
@spec_options
@output_options
def plan(spec: Path, out: Output, **order: Any) -> None:
    """Print the steps of a build with their reasons; run nothing."""
    from lsbuild import build as building
    from lsbuild import report as reports

    with out.monitor() as monitor:
        planned = building.prepare(order_of(spec, **order), monitor).plan
    out.give(reports.plan_dict(planned), lambda: reports.plan_text(planned))


@main.command()
@spec_options
@click.option("--explain", is_flag=True, help="Show where each value came from.")
@output_options
def config(spec: Path, explain: bool, out: Output, **order: Any) -> None:
    """Print the resolved spec.

    That is the spec after substitution, with defaults and with the overrides of the target.
    """
    from lsbuild import build as building
    from lsbuild import report as reports

    loaded = building.read(order_of(spec, **order))
    if explain:
        out.give(reports.explain_dict(loaded), lambda: reports.explain_text(loaded))
    else:
        out.give(reports.config_dict(loaded), lambda: reports.config_text(loaded))


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead of the screen.")
@output_options
def schema(output: Path | None, out: Output) -> None:
    """Print the JSON Schema of the spec, for editors."""
    from lsbuild.spec.schema import schema as spec_schema

    text = json.dumps(spec_schema(), indent=2, ensure_ascii=False)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        out.give(spec_schema(), lambda: text)


@main.command("eval")
@spec_options
@click.option(
    "--against", metavar="URL|ARTIFACT", help="Ask this server, or this artifact, instead of what a build makes."
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Measure this one of the evals; may be given several times."
)
@click.option("--each", is_flag=True, help="Print every question with what came.")
@output_options
def evaluate(spec: Path, against: str | None, only: tuple[str, ...], each: bool, out: Output, **order: Any) -> None:
    """Measure what the evals of SPEC name, and compare with their gates."""
    from lsbuild import evaluate as evaluating
    from lsbuild.errors import GateError
    from lsbuild.evals import table

    with out.monitor() as monitor:
        found = evaluating.evaluate(order_of(spec, **order), against, only, monitor)
    body = table.to_dict(found.results, found.gates, found.unasked)
    out.give(body, lambda: table.to_text(found.results, found.gates, found.unasked, each=each))
    if not body["ok"]:
        sys.exit(GateError.exit_code)
