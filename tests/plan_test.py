"""Levels, settings and seeds of a plan, and the groups that they are padded in."""

import itertools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lvm_jax import noisy_or, sparse_coding
from lvm_jax.sweep import Plan, plan
from lvm_jax.sweep.plan import RunName

_RATES = noisy_or.NvilHyperparams()


class _Clashing(NamedTuple):
    level: int


def _plan(levels, seeds, names=("a",)):
    settings = {name: noisy_or.NvilHyperparams() for name in names}
    return Plan(levels=levels, seeds=seeds, settings=settings)


def test_groups_hold_every_run_once_and_pad_little():
    groups = plan.groups(_plan((8, 64, 61, 10, 62, 3), (5, 6), ("a", "b")))
    runs = [run for group in groups for run in group.runs]
    assert sorted(runs) == sorted(
        RunName(*run)
        for run in itertools.product((3, 8, 10, 61, 62, 64), ("a", "b"), (5, 6))
    )
    assert [group.width for group in groups] == [3, 8, 10, 64]


def test_a_width_is_the_level_or_up_to_an_eighth_more():
    for level in range(1, 300):
        width = plan.width(level)
        assert level <= width < 1.125 * level or width == level
        assert plan.width(width) == width
    for level in (8, 16, 32, 64, 128, 24, 48, 96, 10, 20, 30, 60):  # the study's
        assert plan.width(level) == level


def test_plan_takes_levels_of_several_kinds():
    (group,) = plan.groups(_plan(((17, 20), (18, 19)), (0,)))
    assert group.width == (18, 20)
    masks = plan.live_mask((17, 20), (18, 20))
    assert [mask.sum() for mask in masks] == [17, 20]


def test_a_plan_makes_tuples_of_lists():
    made = _plan([8, 16], range(2))
    assert (made.levels, made.seeds) == ((8, 16), (0, 1))
    made = _plan(np.array([8, 17]), np.arange(2))
    assert (made.levels, made.seeds) == ((8, 17), (0, 1))
    assert all(type(number) is int for number in (*made.levels, *made.seeds))
    assert _plan([[5, 17]], range(2)).levels == ((5, 17),)
    assert plan.as_levels([[8, 16], [4, 4]]) == ((8, 16), (4, 4))
    assert plan.as_levels([8, 3]) == (8, 3)


def test_runs_of_a_level_and_seed_have_their_own_key():
    keys = [
        tuple(jax.random.key_data(plan.run_key(seed, level)).tolist())
        for seed in (0, 1, 8, 16)
        for level in (1, 8, 16, (8, 16), (16, 8))
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": (0,)}, "levels of at least 1 and below 2147483648, got 0"),
        ({"levels": ((1, 0),)}, r"levels of at least 1 .* got \(1, 0\)"),
        ({"levels": ()}, "levels without repeats"),
        ({"seeds": (1, 1)}, "seeds without repeats"),
        ({"levels": (8.0,)}, "levels of at least 1 and below 2147483648, got 8.0"),
        ({"levels": ((),)}, r"levels of at least 1 and below 2147483648, got \(\)"),
        ({"levels": (True,)}, "levels of at least 1 and below 2147483648, got True"),
        ({"levels": 8}, "levels in a sequence, got 8"),
        ({"levels": (8, (8,))}, r"levels of different names, got \(8, \(8,\)\)"),
        ({"seeds": (0, "1")}, "seeds from 0 to 2147483647, got 1"),
        (
            {"batch_size": 20.0},
            "batch_size of at least 1 and below 2147483648, got 20.0",
        ),
        ({"seeds": (2**31, 0)}, "seeds from 0 to 2147483647, got 2147483648"),
        ({"batch_size": 0}, "batch_size of at least 1 and below 2147483648, got 0"),
        (
            {"records_per_epoch": 0},
            "records_per_epoch of at least 1 and below 2147483648, got 0",
        ),
        ({"block": 0}, "blocks of at least 1 and .* runs, got 0"),
        ({"precision": "float16"}, "float32, float64, got float16"),
        ({"settings": {}}, "settings by name, at least one"),
        ({"settings": _RATES}, "settings by name, at least one"),
        ({"settings": {"a": 0.1}}, "a NamedTuple of finite numbers as setting 'a'"),
        ({"settings": {1: _RATES}}, "text as names of settings, got {1: "),
        ({"settings": {"a": _Clashing(1)}}, "than columns of tables, got level"),
        ({"settings": {"a": {2: _RATES}}}, "for level 1 in setting 'a', got levels 2"),
        ({"settings": {"a": _RATES._replace(q_rate="x")}}, "finite numbers as setting"),
        ({"settings": {"a": _RATES._replace(q_rate=np.nan)}}, "finite numbers as"),
        ({"settings": {"a": _RATES._replace(q_rate=1e39)}}, "as float32 has them"),
        (
            {
                "settings": {
                    "a": _RATES,
                    "b": sparse_coding.AlternatingMinimizationHyperparams(),
                }
            },
            "settings of the same hyperparameters, theta_rate, .* got step_size",
        ),
    ],
)
def test_plan_refuses_what_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{"levels": (1,), "seeds": (0,), "settings": {"a": _RATES}, **fields})
