"""What a plan still has to train, cut into waves that fit into memory.

A wave is a sweep of its own, all seeds at some levels and settings, trained before the
next one starts. A directory of results grows by waves, too: seeds, levels and settings
that are asked for later are waves after those that are there.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lvm_jax.sweep.engine import Memory, Sweep
from lvm_jax.sweep.plan import Plan, RunName, as_levels
from lvm_jax.types import Level, level_name


class Wave(NamedTuple):
    """Runs that train together: every seed at every level and setting."""

    levels: tuple[Level, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]

    def runs(self) -> list[RunName]:
        """Its runs."""
        return list(itertools.starmap(RunName, itertools.product(*self)))


def as_wave(
    levels: Iterable[Any], settings: Iterable[str], seeds: Iterable[int]
) -> Wave:
    """A wave, of whose fields JSON may have made lists."""
    return Wave(as_levels(levels), tuple(settings), tuple(seeds))


def whole(plan: Plan) -> Wave:
    """All runs of a plan as one wave."""
    return Wave(plan.levels, tuple(plan.settings), plan.seeds)


def part_of(plan: Plan, wave: Wave) -> Plan:
    """The plan of a wave alone."""
    settings = {name: plan.settings[name] for name in wave.settings}
    return dataclasses.replace(
        plan, levels=wave.levels, settings=settings, seeds=wave.seeds
    )


def missing(present: Sequence[Wave], plan: Plan) -> list[Wave]:
    """The runs of a plan that are not there.

    Args:
      present: what is there.
      plan: what is asked for.

    Returns:
      Waves that hold every missing run once: levels and settings that miss the same
      seeds share a wave.

    Raises:
      ValueError: if there are runs that are not asked for.
    """
    trained = {run for wave in present for run in wave.runs()}
    for run in sorted(trained - set(whole(plan).runs()), key=str):
        raise ValueError(
            f"expected all runs that are there to be asked for, got none of level "
            f"{level_name(run.level)}, setting {run.setting!r} and seed {run.seed}"
        )
    levels = {}  # by setting and missing seeds
    for level, setting in itertools.product(plan.levels, plan.settings):
        seeds = tuple(
            seed for seed in plan.seeds if RunName(level, setting, seed) not in trained
        )
        levels.setdefault((setting, seeds), []).append(level)
    settings = {}  # by levels and missing seeds
    for (setting, seeds), members in levels.items():
        settings.setdefault((tuple(members), seeds), []).append(setting)
    return [
        Wave(members, tuple(names), seeds)
        for (members, seeds), names in settings.items()
        if seeds
    ]


def split(wave: Wave, make_sweep: Callable[[Wave], Sweep], limit: float) -> list[Wave]:
    """Cuts a wave into waves that fit into a device's memory.

    By seeds as long as every device has a block of each level, then by settings, then
    by levels.

    Args:
      wave: all that is to be trained.
      make_sweep: the sweep of a wave; it is compiled to know what it needs.
      limit: bytes of a device.

    Returns:
      Waves that hold every run once.

    Raises:
      ValueError: if a block of one level on each device does not fit.
    """
    needs = {}  # by what alone decides: the levels and the numbers of settings, seeds

    def fitting(part):
        shape = part.levels, len(part.settings), len(part.seeds)
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
                f"which level {level_name(part.levels[0])} needs for {num_at_once} "
                f"runs at once, got {limit / 2**20:.2f} MiB"
            )
        return [whole for other in smaller for whole in fitting(other)]

    return fitting(wave)


def _needs(sweep: Sweep) -> tuple[Memory, int]:
    """What a device needs, and runs that train at once; keeps no hold of the sweep."""
    return sweep.memory(), sweep.num_at_once


def _parts(wave: Wave, count: int, num_at_once: int) -> list[Wave]:
    """Up to `count` waves of fewer seeds, or two of fewer settings or levels."""
    size = max(len(wave.seeds) // count // num_at_once, 1) * num_at_once
    if size < len(wave.seeds):
        starts = range(0, len(wave.seeds), size)
        return [wave._replace(seeds=wave.seeds[at : at + size]) for at in starts]
    for field in ("settings", "levels"):
        values = getattr(wave, field)
        middle = len(values) // 2
        if middle:
            halves = values[:middle], values[middle:]
            return [wave._replace(**{field: half}) for half in halves]
    return [wave]
