"""What a sweep trains: its runs, in groups of similar width.

A run is a seed at a level. Levels of similar width share a group, padded to the widest.
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

# The largest ratio of a group's width to a level's in it.
_MAX_PADDING = 1.3


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
    """

    levels: tuple[Level, ...]
    seeds: tuple[int, ...]
    batch_size: int = 20
    epochs_per_call: int = 10
    snapshot_every: int = 100

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
            if min(jax.tree.leaves(level)) < 1:
                raise ValueError(f"expected levels of at least 1, got {level}")
        for name in ("batch_size", "epochs_per_call", "snapshot_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")


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
    """Puts levels of similar width together, widest last.

    Args:
      levels: distinct levels.
      seeds: distinct seeds.

    Returns:
      Groups whose runs together are all pairs of a level and a seed.
    """

    def widest(members):
        return jax.tree.map(lambda *sizes: max(sizes), *members)

    groups = [[level] for level in sorted(levels, key=size)[:1]]
    for level in sorted(levels, key=size)[1:]:
        wider = widest([*groups[-1], level])
        if size(wider) <= _MAX_PADDING * min(map(size, groups[-1])):
            groups[-1].append(level)
        else:
            groups.append([level])
    return tuple(
        Group(
            widest(members),
            tuple(level for level in members for _ in seeds),
            tuple(seeds) * len(members),
        )
        for members in groups
    )


def size(level: Level) -> int:
    """The number of latents of a level, the product of those of each kind."""
    return math.prod(jax.tree.leaves(level))


def live_mask(level: Level, width: Level) -> Any:
    """[K] ones for the latents of a level and zeros up to the width, for each kind."""
    return jax.tree.map(
        lambda n, w: (np.arange(w) < n).astype(np.float32), level, width
    )
