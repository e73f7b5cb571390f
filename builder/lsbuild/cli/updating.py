"""Commands that make keys and signed updates."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, output_options


@main.group()
def key() -> None:
    """Make keys that updates are signed with."""


@key.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that the key is locked with.")
@output_options
def key_new(file: Path, passphrase: bool, out: Output) -> None:
    """Write a new private key to FILE and its public half to FILE.pub.

    The public key is what devices are given: `updates: {keys: [...]}` of their target.
    """
    from lsbuild.delivery import signing

    made = signing.new(file, _passphrase(ask=passphrase, twice=True))
    said = f"{file} signs updates; keep it and lose it to nobody\n{file}.pub is for devices: {made.public}"
    out.give({"ok": True, "private": str(file), "public": made.public, "id": made.id}, lambda: said)


def _passphrase(*, ask: bool, twice: bool = False) -> str:
    from lsbuild.delivery.signing import PASSPHRASE

    if ask:
        return str(click.prompt("passphrase", hide_input=True, confirmation_prompt=twice, err=True))
    return os.environ.get(PASSPHRASE, "")


@main.group()
def update() -> None:
    """Make signed updates for devices that run an artifact."""


@update.command("make")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="The private key that signs.")
@click.option("--passphrase", is_flag=True, help="Ask for the passphrase of the key.")
@click.option(
    "-o",
    "--out",
    "output",
    required=True,
    type=click.Path(path_type=Path),
    help="A new file, or a folder for a web server.",
)
@click.option("--platform", default="", help="Which of several platforms of ARTIFACT, like linux-aarch64-cp313.")
@click.option(
    "--version", "number", type=click.IntRange(1), help="Version of the update. [default: one more than those known]"
)
@click.option(
    "--from", "before", multiple=True, type=click.Path(path_type=Path), help="Leave out what this update has."
)
@click.option(
    "--minimum", default=0, type=click.IntRange(0), help="The version that a device has to have. [default: any]"
)
@click.option(
    "--next-key", "next_keys", multiple=True, metavar="KEY", help="A public key that is trusted from then on."
)
@click.option("--health", default=300, show_default=True, type=click.IntRange(5), help="Seconds that a trial may last.")
@output_options
def update_make(
    artifact: Path,
    key_file: Path,
    passphrase: bool,
    output: Path,
    platform: str,
    number: int | None,
    before: tuple[Path, ...],
    minimum: int,
    next_keys: tuple[str, ...],
    health: int,
    out: Output,
) -> None:
    """Sign ARTIFACT as an update, whole or as the parts that are new.

    A folder is added to, so that it can be served while it is written; a file is one bundle.
    """
    from lsbuild.delivery import signing
    from lsbuild.delivery import update as updating

    order = updating.Order(
        artifact=artifact,
        version=number or updating.next_version(output, before),
        platform=platform,
        minimum=minimum,
        health_s=health,
        keys=tuple(map(signing.read_public, next_keys)),
        before=before,
    )
    say = (lambda line: click.echo(line, err=True)) if not (out.quiet or out.as_json) else (lambda _line: None)
    made = updating.make(order, signing.load(key_file, _passphrase(ask=passphrase)), output, say)
    out.give({"ok": True, **made.to_dict()}, made.to_text)


@update.command("host")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--key", "public", required=True, metavar="KEY", help="The public key whose updates are taken, or its file."
)
@click.option("--url", default="", help="Folder of updates on a web server.")
@click.option("--platform", default="", help="Which of several platforms of ARTIFACT, like linux-x86_64-cp313.")
@click.option("-o", "--out", "output", required=True, type=click.Path(path_type=Path), help="A new file, NAME.tar.gz.")
@output_options
def update_host(artifact: Path, public: str, url: str, platform: str, output: Path, out: Output) -> None:
    """Write what a machine with podman needs to run the image ARTIFACT by updates.

    It is unpacked in /opt; the image itself comes with the first update.
    """
    from pydantic import ValidationError

    from lsbuild.delivery import container_host, signing
    from lsbuild.packing.updater import Updates

    try:
        options = Updates(keys=(signing.read_public(public),), url=url)
    except ValidationError as error:
        raise click.UsageError(f"--url: {error.errors()[0]['msg']}") from error
    unit = container_host.write(artifact, platform, options, output)
    out.give(
        {"ok": True, "path": str(output), "unit": unit}, lambda: f"{output}: unpack it in /opt, then apply an update"
    )
