"""The record of a device: what serves, what is on trial, how far versions have come; and how one state follows another.

The functions that make a state of another are pure. ``save`` is one rename, so the record is never half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from lsbuild_runtime.updates.disk import Disk, make_folders, replace
from lsbuild_runtime.updates.errors import Unusable

SCHEMA = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BY_HAND = "it was taken back by hand"
INTERRUPTED = "the device was started again during the trial"


class Version(NamedTuple):
    """A version in a slot ("" is what was installed, whose version is 0); ``update`` is the digest of what was signed."""

    slot: str = ""
    version: int = 0
    update: str = ""


class Trial(NamedTuple):
    """A version that is tried: how often it was started, in which boot of the device, and the keys that come with it."""

    version: Version
    starts: int
    boot: str
    keys: tuple[str, ...] = ()


class Failure(NamedTuple):
    """The last version that did not pass: why, and how often."""

    version: Version
    reason: str
    times: int


class State(NamedTuple):
    """``committed`` serves, or would without a trial; ``previous`` is what it replaced, while that is whole.

    ``highest`` is the newest version that ever was committed: it outlives slots, and nothing older is taken. ``factory``
    identifies what was installed: when that changes, somebody installed a package by hand, and it serves. ``keys`` came
    with updates and count while the administrator's own are those of ``keys_over``.
    """

    factory: str
    committed: Version = Version()
    previous: Version | None = None
    trial: Trial | None = None
    highest: Version = Version()
    keys: tuple[str, ...] = ()
    keys_over: str = ""
    failure: Failure | None = None

    @property
    def started(self) -> Version:
        """What a start of the service starts."""
        return self.trial.version if self.trial else self.committed

    @property
    def free_slot(self) -> str:
        """The slot that may be changed."""
        return "b" if self.committed.slot == "a" else "a"


def settled(state: State, factory: str) -> State:
    """The state of a device on which ``factory`` is installed now."""
    if state.factory == factory:
        return state
    return state._replace(factory=factory, committed=Version(), previous=None, trial=None, failure=None)


def without_previous(state: State) -> State:
    """Nobody goes back to the free slot any more: it may be changed."""
    return state._replace(previous=None)


def on_trial(state: State, version: Version, boot: str, keys: tuple[str, ...]) -> State:
    """The next start of the service is a trial of ``version``."""
    return state._replace(trial=Trial(version, 0, boot, keys), previous=None)


def at_start(state: State, boot: str, *, watched: bool) -> State:
    """What holds when the service is about to be started.

    A trial is started once, in the boot of the device that it began in, and while an updater waits for its end.
    """
    if state.trial is None:
        return state
    if state.trial.boot != boot:
        return rolled_back(state, INTERRUPTED)
    if state.trial.starts:
        return rolled_back(state, "it ended, or was started again, before it had passed")
    if not watched:
        return rolled_back(state, "its updater ended before it was started")
    return state._replace(trial=state.trial._replace(starts=1))


def committed(state: State, settings_digest: str) -> State:
    """The trial passed."""
    if state.trial is None:
        return state
    new = state.trial.version
    after = state._replace(committed=new, previous=state.committed, trial=None, failure=None)
    if new.version >= state.highest.version:
        after = after._replace(highest=new)
    if state.trial.keys:
        after = after._replace(keys=state.trial.keys, keys_over=settings_digest)
    return after


def rolled_back(state: State, reason: str) -> State:
    """The trial did not pass."""
    if state.trial is None:
        return state
    failed, before = state.trial.version, state.failure
    times = before.times + 1 if before and before.version.update == failed.update else 1
    return state._replace(trial=None, failure=Failure(failed, reason, times))


def gone_back(state: State) -> State:
    """Somebody wants the version before: the one that was replaced, else what was installed.

    What he does not want is not taken again by itself.
    """
    if state.trial:
        return rolled_back(state, BY_HAND)
    unwanted = Failure(state.committed, BY_HAND, 1)
    return state._replace(committed=state.previous or Version(), previous=None, failure=unwanted)


def trusted(state: State, own: tuple[str, ...], digest: str) -> tuple[str, ...]:
    """The keys that count: those of the last update that named some, unless the administrator changed his since."""
    return state.keys if state.keys and state.keys_over == digest else own


def boot_id() -> str:
    """What names this run of the kernel."""
    return BOOT_ID.read_text().strip()


def load(path: Path, factory: str) -> State:
    """The record, or that of a new device. Raises Unusable for one that is damaged."""
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != SCHEMA:
            raise Unusable(
                f"{path} has schema {value['schema']!r}, this updater reads {SCHEMA}; install the package again"
            )
        return settled(_from_json(value), factory)
    except FileNotFoundError:
        return State(factory)
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "what was installed serves; remove the file to begin anew: versions are counted from the next update on"
        raise Unusable(f"{path} is damaged ({error!r}); {hint}") from error


def save(path: Path, state: State, disk: Disk) -> None:
    """Replace the record; it is on the disk when this returns."""
    make_folders(disk, path.parent)
    replace(disk, path, to_json(state))


def to_json(state: State) -> bytes:
    """Tuples with names as objects."""
    return json.dumps({"schema": SCHEMA, **_plain(state)}, indent=1, sort_keys=True).encode() + b"\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: dict[str, Any]) -> State:
    trial, failure, previous = value["trial"], value["failure"], value["previous"]
    return State(
        factory=str(value["factory"]),
        committed=Version(**value["committed"]),
        previous=Version(**previous) if previous else None,
        trial=Trial(Version(**trial["version"]), trial["starts"], trial["boot"], tuple(trial["keys"]))
        if trial
        else None,
        highest=Version(**value["highest"]),
        keys=tuple(value["keys"]),
        keys_over=str(value["keys_over"]),
        failure=Failure(Version(**failure["version"]), failure["reason"], failure["times"]) if failure else None,
    )
