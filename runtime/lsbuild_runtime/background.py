"""Work in the background: a thread that looks for work when it is woken and now and then; it knows nothing of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable

LONGEST_PAUSE = 60.0


class Background:
    """One thread. ``look`` does what there is to do and says after how many seconds to look again; None: when it is woken.

    What it raises is told to ``report``, and it is asked again with growing pauses: the disk may be full or gone for a while.
    """

    def __init__(self, name: str, look: Callable[[], float | None], report: Callable[[Exception], None]) -> None:
        self._name = name
        self._look = look
        self._report = report
        self._signal = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()
        """Set when the thread is to end; who works looks at it."""

    def wake(self) -> None:
        """There may be something to do; starts the thread when it does not run yet."""
        with self._starting:
            if self._thread is None and not self.stopping.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._signal.set()

    def stop(self, seconds: float = 5.0) -> None:
        """End the thread, and wait so long for it."""
        self.stopping.set()
        self._signal.set()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        failed = 0
        while not self.stopping.is_set():
            self._signal.clear()
            try:
                pause = self._look()
                failed = 0
            except Exception as error:
                failed += 1
                pause = min(2.0**failed, LONGEST_PAUSE)
                self._report(error)
            self._signal.wait(pause)
