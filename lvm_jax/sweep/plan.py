"""What a sweep trains: its runs, in groups of similar width.

A run is a seed at a level and a setting. Levels of similar width share a group, padded
to a width that depends on the level alone.
"""

import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from lvm_jax import numerics
from lvm_jax.types import Hyperparams, Level, level_name

CPU_BLOCK = 4  # runs at once on a core: 7% slower than all, and fewer idle cores
_KEY_LIMIT = 1 << 31  # of what is folded into a random key
_MAX_RUNS = 1 << 20  # whose names and rows alone take a gigabyte
_SIGNIFICANT_BITS = 4  # of a width: no more than an eighth is padding
# What tables say of a run beside its hyperparameters.
_COLUMNS = {"dataset", "level", "setting", "seed", "epoch", "objective", "diverged"}


class Schedule(NamedTuple):
    """How a plan cuts training: what its compiled program is made for.

    Attributes:
      batch_size: as the plan has it, and so the others.
      records_per_epoch: likewise.
      snapshot_every: likewise.
      epochs_per_call: likewise.
    """

    batch_size: int
    records_per_epoch: int
    snapshot_every: int
    epochs_per_call: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and how it is cut into compiled calls.

    Attributes:
      levels: numbers of latents.
      seeds: one run for each, at each level and setting.
      settings: hyperparameters by name: a NamedTuple of numbers for all levels, or one
        for each level. Every number is traced. A run depends on the numbers of its
        setting, not on the name; settings share a seed's start and batches.
      batch_size: B, samples of one step.
      records_per_epoch: evaluations of an epoch, after equal numbers of steps, the last
        one at its end. They change what is seen, never what is learned.
      snapshot_every: the model of every so many epochs is a candidate to be kept,
        100 in the study.
      epochs_per_call: epochs of one compiled call. It changes when results are
        seen, never what they are.
      block: runs that a device computes at once; None for four on a CPU, and for all
        of them on an accelerator. Blocks of one size make a run's numbers the same bit
        for bit whatever trains beside it; one device, whose program XLA compiles
        otherwise, and several differ by rounding. A group is filled up to whole blocks
        on every device with spare runs.
      precision: "float32" or "float64", of all floating-point numbers.
    """

    levels: tuple[Level, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Hyperparams | Mapping[Level, Hyperparams]]
    batch_size: int = 20
    records_per_epoch: int = 1
    snapshot_every: int = 100
    epochs_per_call: int = 10
    block: int | None = None
    precision: str = "float32"

    def __post_init__(self):
        """Makes tuples of levels and seeds, and checks every field.

        Raises:
          ValueError: if a field is out of range.
        """
        for name in ("levels", "seeds"):
            given = getattr(self, name)
            if not isinstance(given, Iterable):
                raise ValueError(f"expected {name} in a sequence, got {given!r}")
            values = itertools.islice(given, _MAX_RUNS + 1)
            values = tuple(jax.tree.map(_plain, as_levels(values)))
            object.__setattr__(self, name, values)
            if len(values) > _MAX_RUNS:
                raise ValueError(f"expected at most {_MAX_RUNS} {name}, got more")
            if not values or len(set(values)) < len(values):
                raise ValueError(f"expected {name} without repeats, got {values}")
        if len(set(map(level_name, self.levels))) < len(self.levels):
            raise ValueError(f"expected levels of different names, got {self.levels}")
        for level in self.levels:
            parts = jax.tree.leaves(level)
            if not parts or not all(_is_whole(part, 1, _KEY_LIMIT) for part in parts):
                raise ValueError(
                    f"expected levels of at least 1 and below {_KEY_LIMIT}, got {level}"
                )
        for seed in self.seeds:
            if not _is_whole(seed, 0, _KEY_LIMIT):
                raise ValueError(
                    f"expected seeds from 0 to {_KEY_LIMIT - 1}, got {seed}"
                )
        for name, value in self.schedule._asdict().items():
            if not _is_whole(value, 1, _KEY_LIMIT):
                raise ValueError(
                    f"expected {name} of at least 1 and below {_KEY_LIMIT}, got {value}"
                )
        if self.block is not None and not _is_whole(self.block, 1, _KEY_LIMIT):
            raise ValueError(
                f"expected blocks of at least 1 and below {_KEY_LIMIT} runs, got "
                f"{self.block}"
            )
        if self.precision not in numerics.PRECISIONS:
            raise ValueError(
                f"expected a precision among {', '.join(numerics.PRECISIONS)}, got "
                f"{self.precision}"
            )
        self._check_settings()
        num_runs = len(self.levels) * len(self.settings) * len(self.seeds)
        if num_runs > _MAX_RUNS:
            raise ValueError(f"expected at most {_MAX_RUNS} runs, got {num_runs}")

    def _check_settings(self) -> None:
        if not isinstance(self.settings, Mapping) or not self.settings:
            raise ValueError(
                f"expected settings by name, at least one, got {self.settings!r}"
            )
        if not all(isinstance(name, str) for name in self.settings):
            raise ValueError(f"expected text as names of settings, got {self.settings}")
        for setting, level in itertools.product(self.settings, self.levels):
            values = self.hyperparams(level, setting)
            fields = getattr(values, "_fields", None)
            if fields is None or not all(_is_finite(x, self.precision) for x in values):
                raise ValueError(
                    f"expected a NamedTuple of finite numbers as setting {setting!r}, "
                    f"as {self.precision} has them, got {values!r}"
                )
            if fields != self.hyperparam_names:
                raise ValueError(
                    f"expected settings of the same hyperparameters, "
                    f"{', '.join(self.hyperparam_names)}, got {', '.join(fields)}"
                )
        if clash := _COLUMNS.intersection(self.hyperparam_names):
            raise ValueError(
                "expected hyperparameters with other names than columns of tables, got "
                f"{', '.join(sorted(clash))}"
            )

    def hyperparams(self, level: Level, setting: str) -> Hyperparams:
        """The numbers of a level's runs at a setting.

        Raises:
          ValueError: if the setting has none for the level.
        """
        values = self.settings[setting]
        if not isinstance(values, Mapping):
            return values
        if level not in values:
            raise ValueError(
                f"expected hyperparameters for level {level_name(level)} in setting "
                f"{setting!r}, got levels {', '.join(map(level_name, values))}"
            )
        return values[level]

    def expanded(self) -> "Plan":
        """The same plan, with the numbers of every setting at every level."""
        settings = {
            name: {level: self.hyperparams(level, name) for level in self.levels}
            for name in self.settings
        }
        return dataclasses.replace(self, settings=settings)

    @property
    def schedule(self) -> Schedule:
        """How the plan cuts training."""
        return Schedule(*(getattr(self, name) for name in Schedule._fields))

    @property
    def hyperparam_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters, the same in all settings."""
        return self.hyperparams(self.levels[0], next(iter(self.settings)))._fields


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Python's own integer of a whole number of any other type."""
    return int(value) if _is_integer(value) else value


def _is_whole(value: Any, least: int, limit: int) -> bool:
    return _is_integer(value) and least <= value < limit


def _is_finite(value: Any, precision: str) -> bool:
    largest = float(np.finfo(precision).max)
    return isinstance(value, numbers.Real) and abs(value) <= largest


class RunName(NamedTuple):
    """Which run of a sweep."""

    level: Level
    setting: str
    seed: int


class Group(NamedTuple):
    """Runs that share a width.

    Attributes:
      width: the number of latents that the group's runs are padded to.
      runs: [R].
    """

    width: Level
    runs: tuple[RunName, ...]


def run_key(seed: int, level: Level) -> chex.PRNGKey:
    """The random key of a run: it depends on its seed and level alone."""
    return functools.reduce(
        jax.random.fold_in, jax.tree.leaves(level), numerics.key(seed)
    )


def groups(plan: Plan) -> tuple[Group, ...]:
    """Puts levels of the same width together, widest last.

    Returns:
      Groups whose runs together are all of the plan's.
    """
    members = {}
    for level in sorted(plan.levels, key=size):
        members.setdefault(width(level), []).append(level)
    return tuple(
        Group(
            shared,
            tuple(
                itertools.starmap(
                    RunName, itertools.product(levels, plan.settings, plan.seeds)
                )
            ),
        )
        for shared, levels in members.items()
    )


def as_levels(values: Iterable[Any]) -> tuple[Level, ...]:
    """Levels, of which JSON may have made lists."""
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def width(level: Level) -> Level:
    """A level's numbers rounded up to four significant bits: 8, 16, 17 -> 18, 30."""

    def rounded(number):
        unit = 1 << max(number.bit_length() - _SIGNIFICANT_BITS, 0)
        return -(-number // unit) * unit

    return jax.tree.map(rounded, level)


def size(level: Level) -> int:
    """The number of latents of a level, the product of those of each kind."""
    return math.prod(jax.tree.leaves(level))


def live_mask(level: Level, width: Level) -> Any:
    """[K] ones for the latents of a level and zeros up to the width, for each kind."""
    return jax.tree.map(
        lambda n, w: (np.arange(w) < n).astype(np.float32), level, width
    )
