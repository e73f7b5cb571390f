"""Commands for the machine that builds: its cache, and what it has and lacks."""

from __future__ import annotations

import sys

import click

from lsbuild.cli.group import main
from lsbuild.cli.output import Output, output_options
from lsbuild.errors import LsbuildError


@main.command()
@click.option("-t", "--target", "targets", multiple=True, help="Look only for the programs of this target.")
@click.option("--fetch", is_flag=True, help="Bring a QEMU for arm64 from the Debian archive, where none is here.")
@click.option("--network", is_flag=True, help="Ask the package index and the Debian archive whether they answer.")
@output_options
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


@main.group(invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show, check or empty the cache."""
    if context.invoked_subcommand is None:
        context.invoke(cache_info)


@cache.command("info")
@output_options
def cache_info(out: Output) -> None:
    """Show where the cache is and what it holds."""
    from lsbuild import report as reports

    out.give(reports.cache_dict(), reports.cache_text)


@cache.command("verify")
@output_options
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
@output_options
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
@output_options
def cache_clear(out: Output) -> None:
    """Remove everything that can be built or fetched again."""
    from lsbuild.running.store import Store

    freed = Store.here().clear()
    out.give({"ok": True, "freed": freed}, lambda: f"freed {freed / 1e6:.1f} MB")
