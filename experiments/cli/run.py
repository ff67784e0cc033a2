"""Running a binary: its flags parsed, its errors told in one line."""

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags, logging

from experiments.cli import failure
from lvm_jax.sweep import devices
from lvm_jax.training import WorkdirError


def run(main: Callable[[], Any]) -> None:
    """Runs a binary. A bad flag or bad input ends it with one line and status 2."""

    def parse(argv):
        for flag in _shared_flags():  # For --help.
            flags.FLAGS.register_key_flag_for_module(argv[0], flag)
        try:
            rest = flags.FLAGS(argv)[1:]
        except UnicodeDecodeError as error:
            failure.fail(
                f"expected flags in UTF-8 in the file of --flagfile, got {error}"
            )
        except (flags.Error, ValueError, OSError) as error:
            failure.fail(error)
        if rest:
            failure.fail(f"expected flags only, got {' '.join(rest)!r}")
        for name, value in flags.FLAGS.flag_values_dict().items():
            if isinstance(value, float) and not math.isfinite(value):
                failure.fail(f"expected a finite number, got --{name}={value}")
        return argv[:1]

    def guarded(argv):
        del argv  # Unused.
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = _show_warning
        # A cache that is damaged or full costs time, and nothing else.
        warnings.filterwarnings("ignore", "Error .* persistent compilation cache")
        try:
            with devices.settings(), failure.at_end:
                main()
        except WorkdirError as error:
            failure.fail(f"{error}; --overwrite starts anew")
        except (ValueError, OSError) as error:
            failure.fail(error)
        except MemoryError as error:
            failure.fail(f"expected more memory, got {str(error) or 'none left'}")
        except jax.errors.JaxRuntimeError as error:
            first_line = str(error).strip().splitlines()[0][:200]
            failure.fail(failure.LOST if devices.is_joined() else first_line)

    app.run(guarded, flags_parser=parse)


def _shared_flags() -> Iterator[flags.Flag]:
    for module, own in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(f"{__package__}."):
            yield from own


def _show_warning(message, *_):
    print("warning:", " ".join(str(message).split()), file=sys.stderr, flush=True)
