"""How a binary ends that cannot go on: with one line and status 2.

In a job of several processes, JAX's runtime ends one where another is lost or does not
come: it is C++ that logs dozens of lines and aborts, and has no way to be told instead.
"""

import contextlib
import ctypes
import os
import signal
import sys

from lvm_jax.sweep import devices

LOST = (
    "expected all processes of the job to answer, got one that is lost; without "
    "--overwrite the same command resumes from the last checkpoint"
)

at_end = contextlib.ExitStack()  # what a binary holds until it ends

_STATUS = 2
_handlers = []  # which C calls, and Python must not collect


def fail(message: object) -> None:
    """Ends this process, in a job without waiting for others, which may wait for it."""
    _print(message)
    if devices.is_joined():
        os._exit(_STATUS)
    sys.exit(_STATUS)


def _print(message: object) -> None:
    sys.stdout.flush()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)  # A bar may be in this line.
    print("error:", " ".join(str(message).split()), file=sys.stderr, flush=True)


def silence() -> None:
    """Keeps standard error for Python: what C++ writes there goes nowhere."""
    sys.stderr = open(os.dup(2), "w", buffering=1)  # noqa: SIM115, as long as it lives
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def on_abort(message: str) -> None:
    """Fails with a message where C++ aborts.

    It aborts by a call, in a thread that holds nothing of Python's: unlike in a handler
    of any other signal, Python may be run there.

    Args:
      message: as `fail` has it.
    """

    def handle(_):
        _print(message)
        os._exit(_STATUS)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    _handlers.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
