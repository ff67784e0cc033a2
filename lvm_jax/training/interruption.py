"""Ending training by a signal: after the running call, or at once."""

import os
import signal
import sys
import threading

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Interruption:
    """Whether SIGINT or SIGTERM has come: a `stop` for `train`, for those who ask.

    A thread waits for the signals, for Python runs no handler while the main thread
    is inside a compiled call. The second one ends the process at once.
    """

    def __init__(self):
        """Blocks the signals in this thread and those that it will start."""
        self.signal = None
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.signal = signal.sigwait(_SIGNALS)
        name = signal.Signals(self.signal).name
        print(
            f"\n{name}: the running call ends and what is trained is saved; once more "
            "stops at once",
            file=sys.stderr,
            flush=True,
        )
        os._exit(128 + signal.sigwait(_SIGNALS))

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that the signal ends; 0 if none has come."""
        return 128 + self.signal if self.signal else 0
