"""How a process of a job ends when JAX's runtime ends it: with one line.

The runtime is C++ that logs dozens of lines and aborts where another process is lost or
does not come, and JAX has no way to be told instead.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_kept = []  # what C calls must not be collected


def silence() -> None:
    """Keeps standard error for Python: what C++ writes there goes nowhere."""
    sys.stderr = open(os.dup(2), "w", buffering=1)  # noqa: SIM115, as long as it lives
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def on_abort(function: Callable[[], Any]) -> None:
    """Calls a function, which is to end the process, instead of aborting.

    A thread of C++ aborts by a call, in which it holds nothing of Python's: unlike in a
    handler of any other signal, Python may be run there.

    Args:
      function: what is called in the thread that aborts.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: function())
    _kept.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
