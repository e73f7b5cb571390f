"""The accounts of a board, made at build from the ``sysusers.d`` files of its packages and one user of ours; pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

USER, USER_ID = "pi", 1000
_GROUPS = ("adm", "netdev", "systemd-journal")
"""Those of the user, who reads the journal and asks wpa_supplicant; the rest is sudo's."""
_HIGHEST = 999
"""Numbers that nobody chose are given from here downwards, as systemd-sysusers does."""


@dataclass(slots=True)
class _Accounts:
    users: dict[str, tuple[int, int, str, str, str]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    next: int = _HIGHEST

    def free(self) -> int:
        taken = {user[0] for user in self.users.values()} | set(self.groups.values())
        while self.next in taken:
            self.next -= 1
        return self.next

    def group(self, name: str, number: str) -> int:
        if name not in self.groups:
            self.groups[name] = int(number) if number.isdigit() else self.free()
        return self.groups[name]

    def user(self, name: str, number: str, comment: str, home: str, shell: str) -> None:
        own, _, group = number.partition(":")
        if name in self.users:
            return
        uid = int(own) if own.isdigit() else self.free()
        if group and not group.isdigit():
            gid = self.groups.get(group, 65534)
        else:
            gid = int(group) if group else self.group(name, str(uid))
        self.users[name] = (uid, gid, comment, home or "/", shell or "/usr/sbin/nologin")


def files(texts: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """(path, text, mode) of passwd, group, shadow and gshadow. Nobody has a password: who comes, comes with a key.

    Args:
        texts: the contents of the files ``usr/lib/sysusers.d/*.conf`` (sysusers.d(5)), in order of their names.
    """
    made = _Accounts()
    rows = [words for text in texts for line in text.splitlines() if (words := shlex.split(line, comments=True))]
    # Fixed numbers first: a free one must not take the place of one that a later line asks for.
    for kind, name, number, *rest in sorted(rows, key=lambda row: not row[2].strip("!")[:1].isdigit()):
        comment, home, shell = (["" if word == "-" else word for word in rest] + ["", "", ""])[:3]
        if kind.rstrip("!") == "g":
            made.group(name, number)
        elif kind.rstrip("!") == "u":
            made.user(name, number, comment, home, shell)
    for name in _GROUPS:
        made.group(name, "-")
    made.user(USER, str(USER_ID), "", f"/home/{USER}", "/bin/bash")
    users = sorted(made.users.items(), key=lambda each: each[1][0])
    groups = sorted(made.groups.items(), key=lambda each: each[1])
    members = {name: USER if name in _GROUPS else "" for name, _ in groups}
    passwd = (f"{name}:x:{uid}:{gid}:{comment}:{home}:{shell}\n" for name, (uid, gid, comment, home, shell) in users)
    yield "etc/passwd", "".join(passwd), 0o644
    yield "etc/group", "".join(f"{name}:x:{gid}:{members[name]}\n" for name, gid in groups), 0o644
    yield "etc/shadow", "".join(f"{name}:*:19000:0:99999:7:::\n" for name, _ in users), 0o600
    yield "etc/gshadow", "".join(f"{name}:*::{members[name]}\n" for name, _ in groups), 0o600
