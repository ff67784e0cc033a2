"""The command line of every binary: one line for an error, and `--levels`."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import app, flags, logging

_EXIT_USAGE = 2


def define_levels(default: Sequence[int]) -> flags.FlagHolder:
    """Defines `--levels` with a binary's own default."""
    holder = flags.DEFINE_list(
        "levels",
        [str(level) for level in default],
        "Numbers of latent variables to learn, separated by commas.",
    )
    flags.register_validator(
        "levels",
        lambda levels: (
            levels
            and all(level.isascii() and level.isdigit() for level in levels)
            and all(int(level) > 0 for level in levels)
        ),
        message="expected whole numbers of at least 1, separated by commas",
    )
    return holder


def run(main: Callable[[], Any]) -> None:
    """Runs a binary. A bad flag or bad input ends it with one line and status 2."""

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)[1:]
        except flags.Error as error:
            _fail(error)
        if rest:
            _fail(f"expected flags only, got {' '.join(rest)!r}")
        for name, value in flags.FLAGS.flag_values_dict().items():
            if isinstance(value, float) and not math.isfinite(value):
                _fail(f"expected a finite number, got --{name}={value}")
        return argv[:1]

    def guarded(argv):
        del argv  # Unused.
        logging.set_verbosity(logging.WARNING)
        try:
            main()
        except (ValueError, OSError) as error:
            _fail(error)
        except jax.errors.JaxRuntimeError as error:
            if not jax.distributed.is_initialized():
                _fail(error)
            first_line = str(error).strip().splitlines()[0]
            _fail(
                f"expected all processes of the job to answer, got {first_line[:200]}; "
                "the same command resumes from the last checkpoint"
            )

    app.run(guarded, flags_parser=parse)


def _fail(message: object) -> None:
    """Ends this process, in a job without waiting for others, which may wait for it."""
    print("error:", " ".join(str(message).split()), file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        os._exit(_EXIT_USAGE)
    sys.exit(_EXIT_USAGE)
