"""The command line: parses, calls the library, prints, exits; the only place that does the last two.

Nothing heavy is imported at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsbuild import __version__
from lsbuild.errors import LsbuildError, SpecError

if TYPE_CHECKING:
    from lsbuild.api import Check
    from lsbuild.build import Order
    from lsbuild.running.monitor import Monitor

_COLOURS = {"proved": "green", "failed": "red", "skipped": "yellow", "unproved": "blue"}
Command = TypeVar("Command", bound=Callable[..., Any])


class DefaultBuild(click.Group):
    """A group whose default command is ``build``: ``lsbuild --target T spec.yaml`` needs no word before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``build`` in front when the first word is neither a command nor one of the group's own options."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["build", *args]
        return super().parse_args(ctx, args)


def _spec_options(command: Command) -> Command:
    """Options of every command that reads a spec."""
    options = [
        click.argument("spec", type=click.Path(path_type=Path)),
        click.option("-t", "--target", default="host", show_default=True, help="What to compile for."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the spec."),
        click.option("--offline", is_flag=True, help="Open no network connection; use what was fetched before."),
        click.option("--locked", is_flag=True, help="Fail when anything differs from lsbuild.lock."),
        click.option("-j", "--jobs", type=click.IntRange(1), help="Steps that run at the same time. [default: cores]"),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where long steps run.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _output_options(command: Command) -> Command:
    """``--json`` and ``--quiet``, and the one place where errors become text and an exit code."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
    @click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> None:
        out = Output(as_json, quiet)
        try:
            command(*args, out=out, **kwargs)
        except LsbuildError as error:
            out.fail(error)
        except KeyboardInterrupt:
            click.echo("interrupted; what was finished is kept", err=True)
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(141)

    return wrapped  # type: ignore[return-value]


class Output:
    """How a command answers: text for people or one JSON object."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def monitor(self) -> Monitor:
        """Where progress goes: a console on stderr, or nowhere."""
        from lsbuild.running import monitor

        return monitor.Silent() if self.quiet or self.as_json else monitor.Console(sys.stderr)

    def give(self, value: Any, text: Callable[[], str]) -> None:
        """Print ``value`` as JSON, or what ``text`` returns."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        elif not self.quiet:
            click.echo(text())

    def check(self, check: Check) -> None:
        """Print one check of an artifact as it is made; in JSON they come together."""
        if not (self.as_json or self.quiet):
            click.echo(f"{click.style(f'{check.state:<8}', fg=_COLOURS[check.state])} {check.name:<28} {check.detail}")

    def end(self, error: LsbuildError | None) -> None:
        """After the answer: raise ``error``, or in JSON, where the answer says it already, exit with its code."""
        if error is not None and self.as_json:
            sys.exit(error.exit_code)
        if error is not None:
            raise error

    def fail(self, error: LsbuildError) -> None:
        """Say what went wrong and exit with the code of its class."""
        if self.as_json:
            problems = [
                {"where": problem.where, "path": list(problem.path), "message": problem.message}
                for problem in (error.problems if isinstance(error, SpecError) else ())
            ]
            body = {"kind": type(error).__name__, "message": error.what, "where": error.where, "hint": error.hint}
            click.echo(json.dumps({"ok": False, "error": {**body, "problems": problems}}, ensure_ascii=False))
        else:
            click.echo(click.style("error: ", fg="red", bold=True, reset=True) + str(error), err=True)
        sys.exit(error.exit_code)


def _order(spec: Path, **options: Any) -> Order:
    """The options of ``_spec_options``, which are the fields of Order."""
    from lsbuild.build import Order

    return Order(spec=spec, **options)


@click.group(cls=DefaultBuild, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lsbuild")
def main() -> None:
    """Compile a distribution spec into the smallest artifact that serves it.

    \b
      lsbuild spec.yaml                      compile for this machine
      lsbuild --target container spec.yaml   compile a container image
      lsbuild run spec.yaml                  compile and serve until Ctrl-C

    A spec is a YAML file that names models, vector stores and agents; `lsbuild init rag DIR` writes a first one.
    """


@main.command()
@_spec_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write. [default: build/NAME-TARGET]")
@click.option("--prove", is_flag=True, help="Verify the artifact at once, and hold budgets.cold_start.")
@_output_options
def build(spec: Path, output: Path | None, prove: bool, out: Output, **order: Any) -> None:
    """Compile SPEC into an artifact (the default command)."""
    from lsbuild import build as building
    from lsbuild import report as reports
    from lsbuild import verify as verifying

    with out.monitor() as monitor:
        report = building.build(_order(spec, **order), output, monitor)
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
@_spec_options
@click.option("--host", help="Address to listen on. [default: the spec's]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@_output_options
def run(spec: Path, host: str | None, port: int | None, out: Output, **order: Any) -> None:
    """Compile SPEC for this machine and serve it until Ctrl-C."""
    from lsbuild import build as building

    if order["target"] != "host":
        raise click.UsageError("`lsbuild run` serves on this machine: leave --target out")
    with out.monitor() as monitor:
        report = building.build(_order(spec, **order), None, monitor)
    building.serve(report.artifact.path, host=host, port=port)


@main.command()
@_spec_options
@_output_options
def plan(spec: Path, out: Output, **order: Any) -> None:
    """Print the steps of a build with their reasons; run nothing."""
    from lsbuild import build as building
    from lsbuild import report as reports

    with out.monitor() as monitor:
        planned = building.prepare(_order(spec, **order), monitor).plan
    out.give(reports.plan_dict(planned), lambda: reports.plan_text(planned))


@main.command()
@_spec_options
@click.option("--explain", is_flag=True, help="Show where each value came from.")
@_output_options
def config(spec: Path, explain: bool, out: Output, **order: Any) -> None:
    """Print the resolved spec.

    That is the spec after substitution, with defaults and with the overrides of the target.
    """
    from lsbuild import build as building
    from lsbuild import report as reports

    loaded = building.read(_order(spec, **order))
    if explain:
        out.give(reports.explain_dict(loaded), lambda: reports.explain_text(loaded))
    else:
        out.give(reports.config_dict(loaded), lambda: reports.config_text(loaded))


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead of the screen.")
@_output_options
def schema(output: Path | None, out: Output) -> None:
    """Print the JSON Schema of the spec, for editors."""
    from lsbuild.spec.schema import schema as spec_schema

    text = json.dumps(spec_schema(), indent=2, ensure_ascii=False)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        out.give(spec_schema(), lambda: text)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--treemap", metavar="FILE", type=click.Path(path_type=Path), help="Also draw what takes the room, as an SVG."
)
@_output_options
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
@_output_options
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
@click.option("-t", "--target", "targets", multiple=True, help="Look only for the programs of this target.")
@click.option("--fetch", is_flag=True, help="Bring a QEMU for arm64 from the Debian archive, where none is here.")
@click.option("--network", is_flag=True, help="Ask the package index and the Debian archive whether they answer.")
@_output_options
def doctor(targets: tuple[str, ...], fetch: bool, network: bool, out: Output) -> None:
    """Look whether this machine can build, boot and deliver, and say what to do where it cannot."""
    from lsbuild.proving import doctor as doctors

    if fetch:
        doctors.fetch()
    findings = list(doctors.examine(targets, network=network))
    body = doctors.to_dict(findings)
    out.give(body, lambda: doctors.to_text(findings))
    if not body["ok"]:
        sys.exit(LsbuildError.exit_code)


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
@_output_options
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
@_output_options
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
@_output_options
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


@main.group()
def key() -> None:
    """Make keys that updates are signed with."""


@key.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that the key is locked with.")
@_output_options
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
@_output_options
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
@_output_options
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


@main.command("eval")
@_spec_options
@click.option(
    "--against", metavar="URL|ARTIFACT", help="Ask this server, or this artifact, instead of what a build makes."
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Measure this one of the evals; may be given several times."
)
@click.option("--each", is_flag=True, help="Print every question with what came.")
@_output_options
def evaluate(spec: Path, against: str | None, only: tuple[str, ...], each: bool, out: Output, **order: Any) -> None:
    """Measure what the evals of SPEC name, and compare with their gates."""
    from lsbuild import evaluate as evaluating
    from lsbuild.errors import GateError
    from lsbuild.evals import table

    with out.monitor() as monitor:
        found = evaluating.evaluate(_order(spec, **order), against, only, monitor)
    body = table.to_dict(found.results, found.gates, found.unasked)
    out.give(body, lambda: table.to_text(found.results, found.gates, found.unasked, each=each))
    if not body["ok"]:
        sys.exit(GateError.exit_code)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path), help="State folder of its server. [default: as the server's]")
@_output_options
def compact(artifact: Path, state: Path | None, out: Output) -> None:  # noqa: ARG001 - the artifact itself answers
    """Fold what was added to the mutable stores of ARTIFACT into their indexes.

    A server may run meanwhile; it folds by itself when it is idle.
    """
    from lsbuild import build as building

    building.compact(artifact, state=state)


@main.command()
@click.argument("template")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_output_options
def init(template: str, folder: Path, out: Output) -> None:
    """Write a new project from TEMPLATE (minimal, rag, proxy) into DIR."""
    from lsbuild import templates

    written = templates.write(template, folder)
    out.give({"ok": True, "files": written}, lambda: templates.next_steps(folder, written))


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a new file instead of the screen.")
@_output_options
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


@main.group(invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show, check or empty the cache."""
    if context.invoked_subcommand is None:
        context.invoke(cache_info)


@cache.command("info")
@_output_options
def cache_info(out: Output) -> None:
    """Show where the cache is and what it holds."""
    from lsbuild import report as reports

    out.give(reports.cache_dict(), reports.cache_text)


@cache.command("verify")
@_output_options
def cache_verify(out: Output) -> None:
    """Read every object again, compare its hashes, and remove what is damaged."""
    from lsbuild.running.store import Store

    store = Store.here()
    damaged = {each.key: faults for each in store.objects() if (faults := store.verify(each.key))}
    for key in damaged:
        store.discard(key)
    lines = [fault for faults in damaged.values() for fault in faults]
    out.give({"ok": not damaged, "damaged": lines}, lambda: "\n".join(lines) or "every object is intact")


@cache.command("prune")
@click.option("--keep", default="2GB", show_default=True, help="How much to keep, as in 500MB or 2GiB.")
@_output_options
def cache_prune(keep: str, out: Output) -> None:
    """Remove what was not used for longest."""
    from pydantic import TypeAdapter, ValidationError

    from lsbuild.running.store import Store
    from lsbuild.spec.units import Bytes

    try:
        limit = TypeAdapter(Bytes).validate_python(keep)
    except ValidationError as error:
        raise click.UsageError(f"--keep: {error.errors()[0]['msg']}") from error
    freed = Store.here().prune(limit)
    out.give({"ok": True, "freed": freed}, lambda: f"freed {freed / 1e6:.1f} MB")


@cache.command("clear")
@_output_options
def cache_clear(out: Output) -> None:
    """Remove everything that can be built or fetched again."""
    from lsbuild.running.store import Store

    freed = Store.here().clear()
    out.give({"ok": True, "freed": freed}, lambda: f"freed {freed / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
