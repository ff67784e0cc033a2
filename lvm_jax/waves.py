"""What a sweep still has to train, cut into waves that fit into memory.

A wave is a sweep of its own, all seeds at all levels, trained before the next one
starts. A directory of results grows by waves, too: seeds and levels that are asked for
later are waves after those that are there.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lvm_jax.sweep import Memory, Sweep
from lvm_jax.types import Level


class Wave(NamedTuple):
    """Runs that train together: every seed at every level."""

    levels: tuple[Level, ...]
    seeds: tuple[int, ...]


def missing(
    waves: Sequence[Wave], levels: Sequence[Level], seeds: Sequence[int]
) -> list[Wave]:
    """The runs that are asked for and not there.

    Args:
      waves: what is there.
      levels: asked for.
      seeds: asked for, at each level.

    Returns:
      Waves that hold every missing run once: levels that lack the same seeds share
      a wave.

    Raises:
      ValueError: if there are runs that are not asked for.
    """
    there = {
        (level, seed) for wave in waves for level in wave.levels for seed in wave.seeds
    }
    extra = there - {(level, seed) for level in levels for seed in seeds}
    if extra:
        level, seed = min(extra)
        raise ValueError(
            f"expected all runs that are there to be asked for, got none of level "
            f"{level} and seed {seed}"
        )
    by_seeds = {}
    for level in levels:
        lacking = tuple(seed for seed in seeds if (level, seed) not in there)
        by_seeds.setdefault(lacking, []).append(level)
    return [Wave(tuple(own), lacking) for lacking, own in by_seeds.items() if lacking]


def split(wave: Wave, make_sweep: Callable[[Wave], Sweep], limit: float) -> list[Wave]:
    """Cuts a wave into waves that fit into a device's memory.

    By seeds as long as every device has a block of each level, then by levels.

    Args:
      wave: all that is to be trained.
      make_sweep: the sweep of a wave; it is compiled to know what it needs.
      limit: bytes of a device.

    Returns:
      Waves that hold every run once.

    Raises:
      ValueError: if a block of one level on each device does not fit.
    """
    needs = {}  # by what alone decides: the levels and the number of seeds

    def fitting(part):
        shape = part.levels, len(part.seeds)
        if shape not in needs:
            needs[shape] = _needs(make_sweep(part))
        memory, num_at_once = needs[shape]
        if memory.total <= limit:
            return [part]
        room = max(limit - memory.data, 1)
        count = math.ceil(memory.runs * memory.per_run / room)
        smaller = _parts(part, count, num_at_once)
        if len(smaller) == 1:
            raise ValueError(
                f"expected a memory limit of at least {memory.total / 2**20:.2f} MiB, "
                f"which level {part.levels[0]} needs for {num_at_once} runs at once, "
                f"got {limit / 2**20:.2f} MiB"
            )
        return [whole for other in smaller for whole in fitting(other)]

    return fitting(wave)


def _needs(sweep: Sweep) -> tuple[Memory, int]:
    """What a device needs, and runs that train at once; keeps no hold of the sweep."""
    return sweep.memory(), sweep.num_at_once


def _parts(wave: Wave, count: int, num_at_once: int) -> list[Wave]:
    """Up to `count` waves of fewer seeds, or else two of fewer levels, or the wave."""
    size = max(len(wave.seeds) // count // num_at_once, 1) * num_at_once
    if size < len(wave.seeds):
        starts = range(0, len(wave.seeds), size)
        return [Wave(wave.levels, wave.seeds[at : at + size]) for at in starts]
    middle = len(wave.levels) // 2
    if middle:
        first, last = wave.levels[:middle], wave.levels[middle:]
        return [Wave(first, wave.seeds), Wave(last, wave.seeds)]
    return [wave]
