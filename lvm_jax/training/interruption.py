"""Ending training by a signal: after the running call, or at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def _signals(told: socket.socket) -> Iterator[int]:
    """Those of the two, when they come, until nobody tells of any more."""
    while byte := told.recv(1):
        if byte[0] in _SIGNALS:
            yield byte[0]


class Interruption:
    """Whether SIGINT or SIGTERM has come: a `stop` for `train`, for those who ask.

    A thread is told of signals the moment they come, to whichever thread, for Python
    runs no handler while the main thread is inside a compiled call. The second one ends
    the process at once. As a context it ends by itself.
    """

    def __init__(self):
        """Takes over both signals of this process.

        Raises:
          ValueError: outside of the main thread.
        """
        self.signal = None
        told, self._teller = socket.socketpair()
        self._teller.setblocking(False)
        self._woken = signal.set_wakeup_fd(
            self._teller.fileno(), warn_on_full_buffer=False
        )
        self._before = {
            number: signal.signal(number, lambda *_: None) for number in _SIGNALS
        }
        threading.Thread(target=self._wait, args=(told,), daemon=True).start()

    def _wait(self, told: socket.socket) -> None:
        """Says that a signal has come, and ends the process at the next."""
        with told:
            for number in _signals(told):
                if self.signal is not None:
                    os._exit(128 + number)
                self.signal = number
                name = signal.Signals(number).name
                print(
                    f"\n{name}: the running call ends and what is trained is saved; "
                    "once more stops at once",
                    file=sys.stderr,
                    flush=True,
                )

    def close(self) -> None:
        """Gives both signals back to what they were for before."""
        signal.set_wakeup_fd(self._woken)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._teller.close()

    def __enter__(self):
        """Has taken over the signals already."""
        return self

    def __exit__(self, *error):
        """Gives them back."""
        self.close()

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that the signal ends; 0 if none has come."""
        return 128 + self.signal if self.signal else 0
