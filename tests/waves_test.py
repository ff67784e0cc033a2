"""What is lacking of a sweep, and waves that fit into memory."""

import itertools

import pytest

from lvm_jax import waves
from lvm_jax.sweep import Memory
from lvm_jax.waves import Wave

_MIB = 2**20


class _Sweep:
    """One whose devices need a MiB for the data and one for each latent of a run."""

    num_at_once = num_devices = 2

    def __init__(self, wave):
        self._wave = wave

    def memory(self):
        per_device = -(-len(self._wave.seeds) // self.num_devices)
        runs = per_device * len(self._wave.levels)
        latents = per_device * sum(self._wave.levels)
        return Memory(_MIB, _MIB * latents / runs, runs)


def _pairs(waves_):
    return [
        pair for wave in waves_ for pair in itertools.product(wave.levels, wave.seeds)
    ]


def test_what_is_lacking_is_every_run_once():
    there = [Wave((8,), (0, 1)), Wave((16,), (0, 1, 2))]
    lacking = waves.missing(there, (8, 16, 32, 64), (0, 1, 2, 3))
    assert lacking == [
        Wave((8,), (2, 3)),
        Wave((16,), (3,)),
        Wave((32, 64), (0, 1, 2, 3)),
    ]
    assert waves.missing(there + lacking, (8, 16, 32, 64), (0, 1, 2, 3)) == []


def test_runs_that_are_not_asked_for_are_refused():
    with pytest.raises(ValueError, match="none of level 8 and seed 1"):
        waves.missing([Wave((8,), (0, 1))], (8,), (0,))


@pytest.mark.parametrize("limit", [200, 100, 60, 26, 18])
def test_waves_hold_every_run_once_and_fit(limit):
    wave = Wave((8, 16), tuple(range(10)))
    parts = waves.split(wave, _Sweep, limit * _MIB)
    assert sorted(_pairs(parts)) == sorted(_pairs([wave]))
    for part in parts:
        assert _Sweep(part).memory().total <= limit * _MIB
    assert len(parts) >= (10 / 2 * 24) / (limit - 1)


def test_a_limit_below_one_run_is_refused():
    with pytest.raises(
        ValueError, match=r"at least 17.00 MiB.* 2 runs at once, got 16.00"
    ):
        waves.split(Wave((8, 16), (0, 1, 2)), _Sweep, 16 * _MIB)
