"""A fixed history of changes to a store, its model in memory, and a child process that plays it until it is killed.

As a program it plays: it waits for ``FIRST\\n`` on stdin, forks a child that applies changes FIRST, FIRST + 1 ... and says
each number on stdout once it is acknowledged, and says ``dead`` when that child has ended.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple

import apsw
from store_contract import Given, given
from vec_state import DIMENSIONS, KIND, Bare

from lsbuild_plugins.sqlite_vec.serve.delta import Delta
from lsbuild_plugins.sqlite_vec.serve.generation import Generations
from lsbuild_plugins.sqlite_vec.serve.mutable import Mutable
from lsbuild_runtime.http import Context
from lsbuild_runtime.mutable import MutableVectorIO

DOCUMENTS = 30
WORDS = [
    "pump",
    "valve",
    "filter",
    "water",
    "red",
    "blue",
    "green",
    "press",
    "hold",
    "turn",
    "close",
    "open",
    "every",
    "week",
    "month",
    "button",
]


class Step(NamedTuple):
    """One change: put, add, remove, set or compact."""

    kind: str
    given: Given


def step(number: int, prefix: str = "file-") -> Step:
    """Change ``number`` of the history of the documents with ``prefix``; always the same."""
    chance = random.Random(f"{prefix}{number}")
    file_id = f"{prefix}{chance.randrange(DOCUMENTS)}"
    texts = [" ".join(chance.choices(WORDS, k=12)) for _ in range(chance.randrange(1, 6))]
    kind = chance.choices(("put", "add", "remove", "set", "compact"), (60, 12, 12, 12, 4))[0]
    return Step(kind, given(file_id, *texts, created_at=number, attributes={"change": number}))


def apply(store: MutableVectorIO, number: int, prefix: str = "file-") -> None:
    """Make change ``number``."""
    kind, (document, passages, vectors) = step(number, prefix)
    if kind == "put":
        store.put(document, passages, vectors)
    elif kind == "add":
        store.add(document, passages, vectors)
    elif kind == "remove":
        store.remove(document.file_id)
    elif kind == "set":
        store.set_attributes(document.file_id, document.attributes)
    else:
        store.compact(Context())


State = dict[str, tuple[int, int, list[str]]]
"""``file_id`` -> when it was made, the change that its attributes name, its texts (sorted)."""


def after(state: State, number: int, prefix: str = "file-") -> State:
    """The model after change ``number``."""
    kind, (document, passages, _) = step(number, prefix)
    texts = [passage.text for passage in passages]
    known = state.get(document.file_id)
    changed = dict(state)
    if kind == "put" or (kind == "add" and known is None):
        changed[document.file_id] = (number, number, sorted(texts))
    elif kind == "add" and known is not None:
        changed[document.file_id] = (known[0], known[1], sorted([*known[2], *texts]))
    elif kind == "remove":
        changed.pop(document.file_id, None)
    elif kind == "set" and known is not None:
        changed[document.file_id] = (known[0], number, known[2])
    return changed


def held(store: Mutable) -> State:
    """What the store holds, seen at one moment."""
    state: State = {}
    with store._view() as view:
        for layer in view.layers:
            for row, document in layer.documents():
                texts = sorted(passage.text for passage in layer.content(row)[0])
                assert document.file_id not in state
                state[document.file_id] = (document.created_at, int(document.attributes["change"]), texts)
    return state


def examine(folder: Path) -> State:
    """Open the store below ``folder`` as after a crash, check every file of it, and return what it holds."""
    place = Bare(folder)
    store = place.open()
    state = held(store)
    info = store.info()
    assert (info.files, info.chunks) == (len(state), sum(len(texts) for _, _, texts in state.values()))
    for mode in ("vector", "keyword"):
        hits = store.search(" ".join(WORDS), Context(), mode=mode, limit=1000)  # type: ignore[arg-type]
        assert sorted((hit.file_id, hit.text) for hit in hits) == sorted(
            (file_id, text) for file_id, (_, _, texts) in state.items() for text in texts
        ), f"a search by {mode} sees something else than what is stored"
    check_files(store)
    store.close()
    return state


def check_files(store: Mutable) -> None:
    """integrity_check, and as many vectors and texts as passages, in the delta and in the generation.

    Over connections of its own: FTS5's part of integrity_check trusts what a connection remembers of the index, and calls a
    segment corrupt that another connection has merged away since. Searches ask first whether the file has changed.
    """
    written = store._written()
    if written is None:
        return
    delta = Delta(written.folder, KIND.embedding, DIMENSIONS)
    with delta.read() as (db, head):
        _check(db)
        if head.generation:
            index = Generations(KIND.embedding, DIMENSIONS).opened(delta.folder, head.generation)
            with index.pool.connection() as generation:
                _check(generation)
            index.pool.close()
    delta.state.close()


def _check(db: apsw.Connection) -> None:
    found = db.execute("PRAGMA integrity_check").fetchall()
    assert found == [("ok",)], found
    counts: Any = db.execute(
        "SELECT (SELECT count(*) FROM chunks), (SELECT count(*) FROM vectors), (SELECT count(*) FROM words)"
    ).fetchone()
    assert len(set(counts)) == 1, counts
    orphans = db.execute("SELECT count(*) FROM chunks WHERE file NOT IN (SELECT id FROM files)").get
    assert orphans == 0


class Player:
    """This module as a program, and what it has acknowledged. ``number`` is the change that comes next."""

    def __init__(self, folder: Path, prefix: str = "file-") -> None:
        here = Path(__file__).parent
        paths = [str(here), str(here.parent), *(path for path in sys.path if path.endswith(("/plugins", "/runtime")))]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, __file__, str(folder), prefix]
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self._pid = 0
        self.prefix = prefix
        self.state: State = {}
        self.number = 0

    def begin(self) -> None:
        """Start a child that plays on from ``number``."""
        self._stdin.write(b"%d\n" % self.number)
        self._stdin.flush()
        self._pid = int(self._stdout.readline().split()[1])

    def listen(self, changes: int) -> None:
        """Wait until so many more changes were acknowledged."""
        for _ in range(changes):
            self._said(self._stdout.readline())

    def kill(self) -> None:
        """Kill the child, wherever it is, and read what it had said."""
        os.kill(self._pid, signal.SIGKILL)
        while (line := self._stdout.readline()) != b"dead\n":
            self._said(line)

    def settle(self, found: State) -> bool:
        """Whether the change under way was made as well, unsaid. Fails when what is there is neither the one nor the other."""
        unsaid = found != self.state
        if unsaid:
            self._said(b"%d" % self.number)
        assert found == self.state, f"lost or half done, near change {self.number} of {self.prefix}"
        return unsaid

    def close(self) -> None:
        """End the program."""
        self._stdin.close()
        self._program.wait(10)
        self._stdout.close()

    def _said(self, line: bytes) -> None:
        assert int(line) == self.number
        self.state = after(self.state, self.number, self.prefix)
        self.number += 1

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._program.stdin is not None
        return self._program.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._program.stdout is not None
        return self._program.stdout


def play(folder: Path, prefix: str) -> None:
    """The program: see the module."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            store = Bare(folder).open()
            number = int(line)
            os.write(1, b"pid %d\n" % os.getpid())
            while True:
                apply(store, number, prefix)
                os.write(1, b"%d\n" % number)
                number += 1
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    play(Path(sys.argv[1]), sys.argv[2])
