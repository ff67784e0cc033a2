"""How flags are defined: lists of whole numbers, and those that a sweep is made of."""

import contextlib
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

LARGEST = 2**31 - 1  # of a whole number
_DIGITS = 20

# Default, least value and help of each flag of a sweep that is a whole number.
_WHOLE_NUMBERS = {
    "seed": (0, 0, "Seed of the first run; the others count on from it."),
    "num_seeds": (16, 1, "Runs of each level, each with a seed of its own."),
    "epochs": (100, 1, "Passes over the training samples."),
    "batch_size": (20, 1, "Samples of one step."),
    "records_per_epoch": (1, 1, "Evaluations of an epoch, at equal distances."),
    "epochs_per_call": (
        5,
        1,
        "Epochs of one compiled call: how often progress is shown. Results do not "
        "depend on it.",
    ),
    "checkpoint_every": (
        50,
        1,
        "Epochs between two checkpoints, rounded up to whole compiled calls.",
    ),
    "devices": (
        0,
        0,
        "Devices of this process to spread the runs over: 0 for every accelerator, or "
        "for as many host devices as there are cores.",
    ),
    "block": (
        None,
        1,
        "Runs that a device computes at once; four on a CPU and all on an accelerator "
        "if not given. A run's numbers are the same bit for bit whatever else is "
        "trained; another size changes them by rounding.",
    ),
    "num_processes": (
        None,
        1,
        "Processes of the job; $JAX_NUM_PROCESSES if not given.",
    ),
    "process_id": (None, 0, "This process, from 0; $JAX_PROCESS_ID if not given."),
    "join_seconds": (300, 1, "How long to wait for the other processes of the job."),
}


def define_list(name: str, default: Sequence[int], text: str, least: int) -> Any:
    """Defines a flag of whole numbers, separated by commas."""
    holder = flags.DEFINE_list(name, [str(value) for value in default], text)
    flags.register_validator(
        name,
        lambda values: (
            values
            and all(value.isascii() and value.isdigit() for value in values)
            and all(len(value) < _DIGITS and int(value) >= least for value in values)
        ),
        message=f"expected whole numbers of at least {least}, separated by commas",
    )
    return holder


def define_levels(default: Sequence[int]) -> flags.FlagHolder:
    """Defines `--levels` with a binary's own default."""
    return define_list(
        "levels",
        default,
        "Numbers of latent variables to learn, separated by commas.",
        least=1,
    )


def define_whole_numbers(**defaults: int) -> dict[str, flags.FlagHolder]:
    """Defines the flags of a sweep that are whole numbers.

    Args:
      **defaults: where a binary has its own.
    """
    return {
        name: flags.DEFINE_integer(
            name,
            defaults.get(name, default),
            text,
            lower_bound=least,
            upper_bound=LARGEST,
        )
        for name, (default, least, text) in _WHOLE_NUMBERS.items()
    }


def define_numbers(name: str, text: str) -> flags.FlagHolder:
    """Defines a flag of finite numbers of at least 0, separated by commas."""
    holder = flags.DEFINE_list(name, None, text)
    flags.register_validator(
        name,
        lambda values: values is None or (values and all(map(_is_number, values))),
        message="expected finite numbers of at least 0, separated by commas",
    )
    return holder


def define_fields(hyperparams: type, holders: dict[str, flags.FlagHolder]) -> None:
    """Adds a flag for each hyperparameter, its help from the record's docstring."""
    defaults = hyperparams._field_defaults
    for name in hyperparams._fields:
        if name in holders:
            continue
        text = re.search(
            rf"^ +{name}: (.*?)(?=\n\S|\n +\w+: |\Z)",
            hyperparams.__doc__ or "",
            re.DOTALL | re.MULTILINE,
        )
        help_text = " ".join(text.group(1).split()) if text else f"{name}."
        holders[name] = define_numbers(
            name,
            f"{help_text[0].upper()}{help_text[1:]} Several, separated by commas, are "
            f"trained side by side. If not given {defaults.get(name)}, or what the "
            "binary's description says.",
        )


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return math.isfinite(float(text)) and float(text) >= 0
    return False


def refuse(beside: str, *names: str) -> None:
    """Refuses flags that would have no effect beside another.

    Args:
      beside: the other flag, as it is written.
      *names: of flags, which a binary need not have.

    Raises:
      ValueError: if one of them is given.
    """
    for name in names:
        if name in flags.FLAGS and flags.FLAGS[name].present:
            raise ValueError(f"expected {beside} or --{name}, got both")


def given_flags() -> dict[str, Any]:
    """All flags of the binary."""
    return {
        flag.name: flag.value
        for module, own in flags.FLAGS.flags_by_module_dict().items()
        for flag in own
        if module == sys.argv[0] or module.startswith("experiments.")
    }
