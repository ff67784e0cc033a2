"""Ending training by a signal: after the running call, or at once."""

import os
import signal
import socket
import sys
import threading

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Interruption:
    """Whether SIGINT or SIGTERM has come: a `stop` for `train`, for those who ask.

    A thread is told of signals the moment they come, to whichever thread, for Python
    runs no handler while the main thread is inside a compiled call. The second one ends
    the process at once.
    """

    def __init__(self):
        """Takes over both signals of this process.

        Raises:
          ValueError: outside of the main thread.
        """
        self.signal = None
        self._told, teller = socket.socketpair()
        teller.setblocking(False)
        signal.set_wakeup_fd(teller.detach(), warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, lambda *_: None) for number in _SIGNALS
        }
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.signal = self._next()
        name = signal.Signals(self.signal).name
        print(
            f"\n{name}: the running call ends and what is trained is saved; once more "
            "stops at once",
            file=sys.stderr,
            flush=True,
        )
        os._exit(128 + self._next())

    def _next(self) -> int:
        """The next signal of the two, when it comes."""
        while (number := self._told.recv(1)[0]) not in _SIGNALS:
            pass
        return number

    def close(self) -> None:
        """Gives both signals back to what they were for before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that the signal ends; 0 if none has come."""
        return 128 + self.signal if self.signal else 0
