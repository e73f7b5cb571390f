"""A machine behind ssh: runs commands there, copies files to it, follows their output; the user's own ssh does the work.

Keys, ports and jump hosts are those of the user's ssh configuration. It never asks for a password: nobody may be there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsbuild.errors import TargetError

_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9\[][\w.:%\]-]*")
_NOT_REACHED = 255


@dataclass(frozen=True, slots=True)
class Remote:
    """``host`` is what one would say to ssh (``pi@kitchen.local``), ``options`` are ``NAME=VALUE`` of ssh_config(5)."""

    host: str
    options: tuple[str, ...] = ()

    def run(self, command: Sequence[str], *, stdin: Path | None = None) -> str:
        """What the command printed. Raises TargetError with its last words, or with ssh's when the machine is not reached."""
        with stdin.open("rb") if stdin else open("/dev/null", "rb") as source:  # noqa: PTH123
            done = subprocess.run(self._words(command), stdin=source, capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
            raise self._failed(command, done.returncode, said[-600:])
        return done.stdout.decode(errors="replace")

    def copy(self, file: Path, path: str) -> None:
        """Copy a file there; what it had under that name before stays until the copy is whole."""
        part = f"{path}.part"
        self.run(("sh", "-c", 'cat > "$1" && mv "$1" "$2"', "sh", part, path), stdin=file)

    def follow(self, command: Sequence[str], say: Callable[[str], None]) -> int:
        """Pass each line of a command on until it ends or Ctrl-C; returns its exit code."""
        with subprocess.Popen(  # noqa: S603
            self._words(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as process:
            try:
                for line in process.stdout or ():
                    say(line.rstrip("\n"))
            except KeyboardInterrupt:
                process.terminate()
            return process.wait()

    def _words(self, command: Sequence[str]) -> list[str]:
        tool = shutil.which("ssh")
        if tool is None:
            raise TargetError("ssh is needed, and it is not installed", hint="apt-get install openssh-client")
        if not _HOST.fullmatch(self.host):
            raise TargetError(f"{self.host!r} is not the name of a machine", hint="write it like pi@kitchen.local")
        return [tool, "-T", *self._settings(), "--", self.host, shlex.join(command)]

    def _settings(self) -> Iterator[str]:
        for option in (*self.options, "BatchMode=yes", "ConnectTimeout=15"):  # ssh takes the first of a name
            yield from ("-o", option)

    def _failed(self, command: Sequence[str], code: int, said: str) -> TargetError:
        if code == _NOT_REACHED:
            return TargetError(
                f"not reached: {said}",
                where=self.host,
                hint=f"try `ssh {self.host}`; a password is not asked for, use a key",
            )
        return TargetError(f"{' '.join(command)[:80]} ended with code {code}: {said}", where=self.host)
