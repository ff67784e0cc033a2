"""What is missing of a plan, and waves that fit into memory."""

import itertools
from typing import NamedTuple

import pytest

from lvm_jax.sweep import Memory, Plan
from lvm_jax.training import waves
from lvm_jax.training.waves import Wave

_MIB = 2**20


class _Sweep:
    """One whose devices need a MiB for the data and one for each latent of a run."""

    num_at_once = num_devices = 2

    def __init__(self, wave):
        self._wave = wave

    def memory(self):
        per_device = -(-len(self._wave.seeds) // self.num_devices)
        per_device *= len(self._wave.settings)
        runs = per_device * len(self._wave.levels)
        latents = per_device * sum(self._wave.levels)
        return Memory(_MIB, _MIB * latents / runs, runs)


class _Rate(NamedTuple):
    rate: float


def _plan(levels, settings, seeds):
    rates = {name: _Rate(float(place)) for place, name in enumerate(settings)}
    return Plan(levels=levels, seeds=seeds, settings=rates)


def _runs(waves_):
    return [run for wave in waves_ for run in itertools.product(*wave)]


def test_what_is_missing_is_every_run_once():
    present = [Wave((8,), ("a",), (0, 1)), Wave((16,), ("a",), (0, 1, 2))]
    plan = _plan((8, 16, 32, 64), ("a",), (0, 1, 2, 3))
    missing = waves.missing(present, plan)
    assert missing == [
        Wave((8,), ("a",), (2, 3)),
        Wave((16,), ("a",), (3,)),
        Wave((32, 64), ("a",), (0, 1, 2, 3)),
    ]
    assert waves.missing(present + missing, plan) == []


def test_another_setting_and_other_seeds_and_levels_at_once_miss_every_run_once():
    present = [Wave((8, 16), ("a",), (0, 1)), Wave((8,), ("b",), (0,))]
    plan = _plan((8, 16, 32), ("a", "b", "c"), (0, 1, 2))
    missing = waves.missing(present, plan)
    assert sorted(_runs(present + missing)) == sorted(_runs([waves.whole(plan)]))
    assert Wave((8, 16, 32), ("c",), (0, 1, 2)) in missing
    alike = waves.missing([], plan)
    assert alike == [waves.whole(plan)]


def test_runs_that_are_not_asked_for_are_refused():
    with pytest.raises(ValueError, match="none of level 8, setting 'a' and seed 1"):
        waves.missing([Wave((8,), ("a",), (0, 1))], _plan((8,), ("a",), (0,)))


@pytest.mark.parametrize("limit", [200, 100, 60, 26, 18])
@pytest.mark.parametrize("settings", [("a",), ("a", "b", "c")])
def test_waves_hold_every_run_once_and_fit(limit, settings):
    wave = Wave((8, 16), settings, tuple(range(10)))
    parts = waves.split(wave, _Sweep, limit * _MIB)
    assert sorted(_runs(parts)) == sorted(_runs([wave]))
    for part in parts:
        assert _Sweep(part).memory().total <= limit * _MIB
    assert len(parts) >= len(settings) * (10 / 2 * 24) / (limit - 1)


def test_a_wave_is_cut_by_seeds_no_further_than_it_must_be():
    wave, asked = Wave((8, 16), ("a",), tuple(range(16))), []

    def make(part):
        asked.append(part)
        return _Sweep(part)

    assert waves.split(wave, make, 193 * _MIB) == [wave]
    asked.clear()
    parts = waves.split(wave, make, 96 * _MIB)
    quarters = [tuple(range(at, at + 4)) for at in (0, 4, 8, 12)]
    assert parts == [wave._replace(seeds=seeds) for seeds in quarters]
    assert asked == [wave, parts[0]]  # The others need as much.


@pytest.mark.parametrize(("limit", "least"), [(16, 17), (1, 9), (0.5, 9)])
def test_a_limit_below_one_run_is_refused(limit, least):
    with pytest.raises(
        ValueError, match=rf"at least {least}.00 MiB.* 2 runs at once, got {limit:.2f}"
    ):
        waves.split(Wave((8, 16), ("a",), (0, 1, 2)), _Sweep, limit * _MIB)
