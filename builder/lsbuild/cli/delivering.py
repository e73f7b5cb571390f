"""Commands that bring an artifact to where it runs: a cloud, a card, a machine behind ssh, a registry."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, output_options


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-t", "--target", help="The target that ARTIFACT has to be of.")
@click.option("--name", default="", help="Name of the function. [default: the spec's name]")
@click.option("--region", default="", help="Region of the cloud. [default: that of your AWS configuration]")
@click.option("--role", default="", metavar="ARN", help="The role that the function runs as; needed the first time.")
@click.option("--bucket", default="", help="S3 bucket for files that are too large to be sent directly.")
@click.option(
    "--image",
    default="",
    metavar="URI",
    help="An image that was pushed before, when ARTIFACT is one. [default: push it]",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable of the function; a bare NAME is read from here.",
)
@click.option("--rollback", is_flag=True, help="Go back to what was live before.")
@output_options
def deploy(artifact: Path, target: str | None, variables: tuple[str, ...], out: Output, **order: Any) -> None:
    """Put ARTIFACT into operation, check that it answers, and go back when it does not."""
    from lsbuild.delivery import deploying

    say = (lambda line: click.echo(line, err=True)) if not (out.quiet or out.as_json) else (lambda _line: None)
    found = deploying.deploy(artifact, target, deploying.order(variables, **order), say)
    out.give({"ok": True, **found}, lambda: "\n".join(f"{name:<10}{value}" for name, value in found.items() if value))


@main.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("device", metavar="DEVICE|FILE", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Also write to a disk that is not removable, and replace a file.")
@click.option("--hostname", help="Name of the board.")
@click.option(
    "--ssh-key",
    "ssh_keys",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A public key with which `pi` may log in.",
)
@click.option(
    "--wifi", metavar="NAME", help="Network of the board; LSBUILD_WIFI_PASSWORD has its password, or it is asked for."
)
@click.option(
    "--set", "given", multiple=True, metavar="NAME=VALUE", help="Another setting of lsbuild.txt, like timezone."
)
@output_options
def flash(
    image: Path,
    device: Path,
    yes: bool,
    hostname: str | None,
    ssh_keys: tuple[Path, ...],
    wifi: str | None,
    given: tuple[str, ...],
    out: Output,
) -> None:
    """Write IMAGE to a card, read it back, and set up the board.

    Disks of this system and mounted ones are refused.
    """
    from lsbuild.delivery import card
    from lsbuild.delivery import flash as flashing

    settings = card.settings(given, hostname=hostname, ssh_keys=ssh_keys, wifi=wifi)
    if wifi and "wifi_password" not in settings:
        hidden = os.environ.get("LSBUILD_WIFI_PASSWORD") or click.prompt(
            f"Password of {wifi}", hide_input=True, err=True
        )
        settings["wifi_password"] = [hidden]
    if settings:
        card.require(settings)

    def show(what: str, done: int, total: int) -> None:
        share = f"{100 * done // total} %" if total else f"{done / 1e6:.0f} MB"
        click.echo(f"\r{what} {share:<20}", err=True, nl=done >= total)

    silent = out.quiet or out.as_json
    found = flashing.flash(image, device, yes=yes, progress=(lambda *_: None) if silent else show)
    if settings:
        card.settle(device, settings)
    body = {"ok": True, "device": str(device), "size": found.size, "sha256": found.sha256, "settings": sorted(settings)}
    also = f"; set: {', '.join(sorted(settings))}" if settings else ""
    out.give(body, lambda: f"{device} holds {image.name}: {found.size:,} bytes, read back and equal{also}")


@main.command()
@click.argument("destination", metavar="HOST|REGISTRY/NAME:TAG")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of ssh, as in its configuration."
)
@click.option("--follow/--no-follow", default=None, help="Whether to show the log until Ctrl-C. [default: follow]")
@click.option("--plain-http", is_flag=True, help="Speak http with a registry that has no TLS.")
@output_options
def push(
    destination: str, artifact: Path, options: tuple[str, ...], follow: bool | None, plain_http: bool, out: Output
) -> None:
    """Install ARTIFACT on HOST over ssh, or push its image to a registry.

    No daemon is needed for either; a registry's login is that of docker and podman.
    """
    from lsbuild.delivery import pushing

    say = (lambda _line: None) if out.quiet or out.as_json else (lambda line: click.echo(line, err=True))
    image = pushing.layout(artifact)
    if image is None:
        _refuse_options(artifact, "is installed over ssh", {"--plain-http": plain_http})
        _install(artifact, destination, options, follow is not False, say, out)
        return
    _refuse_options(artifact, "is an image", {"--option": options, "--follow": follow is not None})
    done = pushing.publish(image, destination, say, plain_http=plain_http)
    out.give(
        {"ok": True, **dataclasses.asdict(done)},
        lambda: f"{done.image}\n{done.sent / 1e6:.1f} MB sent, {(done.mounted + done.there) / 1e6:.1f} MB were there",
    )


def _refuse_options(artifact: Path, why: str, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise click.UsageError(f"{name} has no meaning here: {artifact} {why}")


def _install(
    artifact: Path, host: str, options: tuple[str, ...], follow: bool, say: Callable[[str], None], out: Output
) -> None:
    from lsbuild.delivery import pushing
    from lsbuild.delivery.remote import Remote

    remote = Remote(host, options)
    done = pushing.push(artifact, remote, say)
    out.give({"ok": True, "host": host, "unit": done.unit}, lambda: f"{done.what} serves on {host} as {done.unit}")
    if follow and not (out.quiet or out.as_json):
        remote.follow(("journalctl", "--no-pager", "-o", "cat", "-n", "20", "-f", "-u", done.unit), click.echo)
