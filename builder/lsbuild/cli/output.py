"""What commands share: the options of those that read a spec, how they answer, and how errors become exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsbuild.errors import LsbuildError, SpecError

if TYPE_CHECKING:
    from lsbuild.api import Check
    from lsbuild.build import Order
    from lsbuild.running.monitor import Monitor


_COLOURS = {"proved": "green", "failed": "red", "skipped": "yellow", "unproved": "blue"}


Command = TypeVar("Command", bound=Callable[..., Any])


def spec_options(command: Command) -> Command:
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


def output_options(command: Command) -> Command:
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


def order_of(spec: Path, **options: Any) -> Order:
    """The options of ``spec_options``, which are the fields of Order."""
    from lsbuild.build import Order

    return Order(spec=spec, **options)
