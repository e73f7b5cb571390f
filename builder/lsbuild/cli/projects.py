"""Commands that write a new spec: from a template, or from the configuration of another stack."""

from __future__ import annotations

from pathlib import Path

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, output_options


@main.command()
@click.argument("template")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@output_options
def init(template: str, folder: Path, out: Output) -> None:
    """Write a new project from TEMPLATE (minimal, rag, proxy) into DIR."""
    from lsbuild import templates

    written = templates.write(template, folder)
    out.give({"ok": True, "files": written}, lambda: templates.next_steps(folder, written))


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a new file instead of the screen.")
@output_options
def import_file(file: Path, output: Path | None, out: Output) -> None:
    """Write a spec from FILE, a run.yaml of Llama Stack or a config.yaml of OGX.

    The spec goes to the screen, or to --output; what became of each part of FILE is listed beside it.
    """
    from lsbuild import importing
    from lsbuild.importing import report as reports

    imported = importing.convert(file)
    if output:
        importing.write(imported.text, output)
    body = {"ok": True, "output": str(output) if output else None, "spec": imported.text}
    listed = reports.to_text(imported.findings)
    if not (output or out.as_json or out.quiet):
        click.echo(listed, err=True)
    said = f"{listed}\nwrote {output}" if output else imported.text.rstrip("\n")
    out.give({**body, **reports.summary_dict(imported.findings)}, lambda: said)
