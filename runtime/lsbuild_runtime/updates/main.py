"""``lsbuild-NAME-update`` on the device: parses, calls the stages, prints, exits; the only place that does the last two."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lsbuild_runtime.updates import course, place, sources, state
from lsbuild_runtime.updates.course import Device, Found
from lsbuild_runtime.updates.disk import Disk
from lsbuild_runtime.updates.errors import NoRoom, Unusable, UpdateError
from lsbuild_runtime.updates.fetch import Progress
from lsbuild_runtime.updates.place import Place
from lsbuild_runtime.updates.sources import Source

_RESTART_S = 120


def main(arguments: Sequence[str]) -> int:
    """Do what a command asks; returns the exit code."""
    options = _options(arguments)
    where = Place(
        options.unit, Path(options.factory), Path(options.updates), Path(options.settings), Path(options.environment)
    )
    try:
        _COMMANDS[options.command](where, options)
    except UpdateError as error:
        return _failed(options, error)
    except OSError as error:
        why = f"{error.filename or where.root}: {error.strerror or error}; what serves was not touched"
        return _failed(options, NoRoom(why))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was fetched is kept\n")
        return 130
    return 0


class Command:
    """The service, started again by a command of the administrator's."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def restart(self) -> None:
        """See Service."""
        try:
            done = subprocess.run(self._words, capture_output=True, text=True, timeout=_RESTART_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unusable(f"{self._words[0]}: the service cannot be started again: {error}") from error
        if done.returncode:
            raise Unusable(f"{' '.join(self._words)} ended with code {done.returncode}: {done.stderr.strip()[-300:]}")


def _device(where: Place) -> Device:
    identity, settings = place.read_identity(where), place.read_settings(where)
    return Device(where, identity, settings, Disk(), Command(settings.restart), state.boot_id())


def _source(device: Device, named: str | None) -> Source:
    found = named or device.settings.url
    if not found:
        raise Unusable(f"name a bundle, a folder or an address, or set `url` in {device.place.settings}")
    return sources.find(found)


def _check(where: Place, options: argparse.Namespace) -> None:
    device = _device(where)
    found = course.check(device, _source(device, options.source), again=options.again)
    if found is None:
        _tell(options, {"update": None}, f"version {device.state().committed.version} is the newest")
        return
    update = found.update
    _tell(
        options,
        {"update": {"version": update.version, "digest": found.digest}},
        f"version {update.version} can be applied",
    )


def _fetch(where: Place, options: argparse.Namespace) -> None:
    device = _device(where)
    with course.alone(where, device.disk):
        source = _source(device, options.source)
        found = course.check(device, source, again=options.again)
        if found is None:
            _tell(options, {"update": None}, "nothing to do: it serves already")
            return
        course.bring(device, found, source, _progress(options))
    _tell(
        options,
        {"update": {"version": found.update.version}},
        f"version {found.update.version} is fetched; `apply` tries it",
    )


def _apply(where: Place, options: argparse.Namespace) -> None:
    device = _device(where)
    with course.alone(where, device.disk):
        _finish_trial(device, options)
        source = course.fetched(device) if options.fetched else _source(device, options.source)
        found = course.check(device, source, again=options.again)
        if found is None:
            _tell(options, {"update": None}, "nothing to do: it serves already")
            return
        had = course.bring(device, found, source, _progress(options))
        course.build(device, found, had)
        _try(device, found, options)


def _try(device: Device, found: Found, options: argparse.Namespace) -> None:
    course.try_out(device, found, place.read_address(device.place, device.identity))
    version = found.update.version
    _tell(options, {"update": {"version": version, "digest": found.digest}}, f"version {version} serves and is kept")


def _finish_trial(device: Device, options: argparse.Namespace) -> None:
    """Go on with a trial whose updater died: the gate decides, as it would have."""
    now = device.state()
    if now.trial is None:
        return
    found = course.check(device, course.fetched(device), again=True)
    if found is None or found.digest != now.trial.version.update:
        course.go_back(device, "its updater died, and what it had fetched is gone")
        return
    _try(device, found, options)


def _commit(where: Place, options: argparse.Namespace) -> None:
    device = _device(where)
    with course.alone(where, device.disk):
        if device.state().trial is None:
            raise Unusable("nothing is on trial")
        _finish_trial(device, options)


def _rollback(where: Place, options: argparse.Namespace) -> None:
    device = _device(where)
    with course.alone(where, device.disk):
        after = course.go_back_by_hand(device)
    version = after.committed.version
    _tell(options, {"version": version}, f"version {version} serves" if version else "what was installed serves")


def _status(where: Place, options: argparse.Namespace) -> None:
    identity = place.read_identity(where)
    now = state.load(where.state, identity.digest)
    value = {
        "unit": where.unit,
        "product": identity.product,
        "target": identity.target,
        "platform": identity.platform,
        **{name: each for name, each in json.loads(state.to_json(now)).items() if name not in ("schema", "factory")},
    }
    serves = (
        f"version {now.committed.version}, slot {now.committed.slot}" if now.committed.slot else "what was installed"
    )
    lines = [f"{identity.product} for {identity.platform}: {serves} serves"]
    if now.trial:
        lines.append(f"version {now.trial.version.version} is on trial")
    if now.failure:
        lines.append(f"version {now.failure.version.version} was taken back: {now.failure.reason}")
    _tell(options, value, "\n".join(lines))


def _begin(where: Place, _options: argparse.Namespace) -> None:
    # Whatever is wrong here, the service has to start: it starts what `current` leads to, or what was installed.
    try:
        course.begin(where, Disk(), state.boot_id())
    except (UpdateError, OSError) as error:
        sys.stderr.write(f"lsbuild-update: {error}\n")


_COMMANDS = {
    "check": _check,
    "fetch": _fetch,
    "apply": _apply,
    "commit": _commit,
    "rollback": _rollback,
    "status": _status,
    "begin": _begin,
}
_HELP = {
    "check": "say whether there is an update for this device",
    "fetch": "have its parts on the device; a transfer that broke off goes on",
    "apply": "fetch it, build it beside what serves, try it, and keep it or take it back",
    "commit": "put what is on trial through its gate now",
    "rollback": "end a trial, or go back to the version before",
    "status": "what serves, what is on trial, what failed",
    "begin": "for the unit: decide what the service starts",
}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lsbuild-update", description="Update this device; nothing unsigned is taken."
    )
    for name in ("unit", "factory", "updates", "settings", "environment"):
        parser.add_argument(
            f"--{name}", required=True, help=argparse.SUPPRESS
        )  # given by the script that was installed
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print one JSON object")
        if name in ("check", "fetch", "apply"):
            command.add_argument(
                "source", nargs="?", help="bundle, folder or http address (default: `url` of the settings)"
            )
            command.add_argument("--again", action="store_true", help="also an update that failed its trial before")
        if name == "apply":
            command.add_argument("--fetched", action="store_true", help="what `fetch` left, without the network")
    return parser.parse_args(arguments)


def _tell(options: argparse.Namespace, value: dict[str, object], text: str) -> None:
    sys.stdout.write((json.dumps({"ok": True, **value}) if options.json else text) + "\n")
    sys.stdout.flush()


def _failed(options: argparse.Namespace, error: UpdateError) -> int:
    """Say why; returns the exit code."""
    if options.json:
        kind = type(error).__name__
        sys.stdout.write(json.dumps({"ok": False, "error": {"kind": kind, "message": str(error)}}) + "\n")
    else:
        sys.stderr.write(f"error: {error}\n")
    return error.code


def _progress(options: argparse.Namespace) -> Progress:
    """Every tenth of the way, as a line on stderr: a journal reads it as well as a terminal."""
    told = -1

    def show(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 10
        if tenth > told and not options.json:
            told = tenth
            sys.stderr.write(f"fetched {done / 1e6:.1f} of {total / 1e6:.1f} MB\n")

    return show
