"""Signals that wait for the step in flight."""

import signal
import threading


class StopRequest:
    """Notes SIGINT and SIGTERM in `requested`, in the main thread, instead of interrupting; a second one interrupts."""

    requested = False

    def __enter__(self) -> "StopRequest":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
