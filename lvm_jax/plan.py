"""What a sweep trains: its runs, in groups of similar width.

A run is a seed at a level. Levels of similar width share a group, padded to a width
that depends on the level alone.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from lvm_jax.types import Level

CPU_BLOCK = 4  # runs at once on a core: 7% slower than all, and fewer idle cores
_KEY_LIMIT = 1 << 31  # of what is folded into a random key
_SIGNIFICANT_BITS = 4  # of a width: no more than an eighth is padding


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What is trained and how it is cut into compiled calls.

    Attributes:
      levels: numbers of latents.
      seeds: one run for each, at each level.
      batch_size: B, samples of one step.
      epochs_per_call: epochs of one compiled call. It changes when results are
        seen, never what they are.
      snapshot_every: the model of every so many epochs is a candidate to be kept,
        100 in the study.
      block: runs that a device computes at once, all if None. Blocks of one size make
        a run's numbers the same bit for bit whatever trains beside it; one device,
        whose program XLA compiles otherwise, and several differ by rounding. A group
        is filled up to whole blocks on every device with spare runs.
    """

    levels: tuple[Level, ...]
    seeds: tuple[int, ...]
    batch_size: int = 20
    epochs_per_call: int = 10
    snapshot_every: int = 100
    block: int | None = None

    def __post_init__(self):
        """Checks every field.

        Raises:
          ValueError: if a field is out of range.
        """
        for name in ("levels", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"expected {name} without repeats, got {values}")
        for level in self.levels:
            if not all(1 <= number < _KEY_LIMIT for number in jax.tree.leaves(level)):
                raise ValueError(
                    f"expected levels of at least 1 and below {_KEY_LIMIT}, got {level}"
                )
        if not all(0 <= seed < _KEY_LIMIT for seed in self.seeds):
            raise ValueError(
                f"expected seeds from 0 to {_KEY_LIMIT - 1}, got {self.seeds[-1]}"
            )
        for name in ("batch_size", "epochs_per_call", "snapshot_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")
        if self.block is not None and self.block < 1:
            raise ValueError(f"expected blocks of at least 1 run, got {self.block}")


class Group(NamedTuple):
    """Runs that share a width.

    Attributes:
      width: the number of latents that the group's runs are padded to.
      levels: [R]. Level of each run.
      seeds: [R]. Seed of each run.
    """

    width: Level
    levels: tuple[Level, ...]
    seeds: tuple[int, ...]


def run_key(seed: int, level: Level) -> chex.PRNGKey:
    """The random key of a run: it depends on its seed and level alone."""
    return functools.reduce(
        jax.random.fold_in, jax.tree.leaves(level), jax.random.key(seed)
    )


def plan(levels: Sequence[Level], seeds: Sequence[int]) -> tuple[Group, ...]:
    """Puts levels of the same width together, widest last.

    Args:
      levels: distinct levels.
      seeds: distinct seeds.

    Returns:
      Groups whose runs together are all pairs of a level and a seed.
    """
    members = {}
    for level in sorted(levels, key=size):
        members.setdefault(width(level), []).append(level)
    return tuple(
        Group(
            shared,
            tuple(level for level in own for _ in seeds),
            tuple(seeds) * len(own),
        )
        for shared, own in members.items()
    )


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
