"""What the sweep asks of a learner, for every learner.

A learner has one row here: how to make it, its data, and levels that share a group.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvm_jax import plan
from lvm_jax.data import noisy_or as noisy_or_data
from lvm_jax.data import pcfg as pcfg_data
from lvm_jax.data import sparse_coding as sparse_coding_data
from lvm_jax.learners import alternating_minimization, neural_pcfg, nvil
from lvm_jax.models import noisy_or, sparse_coding
from lvm_jax.plan import SweepConfig
from lvm_jax.sweep import Sweep
from lvm_jax.types import Learner, Recovery

_NUM_TRAIN = 500  # 25 steps an epoch


@dataclasses.dataclass(frozen=True)
class Case:
    """A learner with its data; `levels` are padded to the last.

    A learner that compiles for long is left out where a test compiles anew, and has a
    test of its own for padding.
    """

    learner: Learner
    recover: Callable[..., Any]
    train: Any
    held_out: Any
    levels: tuple[Any, ...]
    compiles_for_long: bool = False

    @property
    def batch(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[:20], self.train)

    def sweep(self, levels, seeds, num_devices=2, **settings) -> Sweep:
        return Sweep(
            self.learner,
            self.recover,
            SweepConfig(levels=levels, seeds=seeds, **settings),
            train=self.train,
            held_out=self.held_out,
            devices=jax.devices()[:num_devices],
        )


def _nvil() -> Case:
    dataset = noisy_or_data.make("IMG", jax.random.key(0), _NUM_TRAIN + 100)
    held_out, train = dataset.samples[:100], dataset.samples[100:]
    return Case(
        learner=nvil.nvil(train.mean(0)),
        recover=lambda params, live: noisy_or.recover(
            dataset.truth, params.model, live
        ),
        train=nvil.pack(train),
        held_out=nvil.pack(held_out),
        levels=(17, 18),
    )


def _alternating_minimization() -> Case:
    dataset = sparse_coding_data.make(
        jax.random.key(0), 10.0, num_samples=_NUM_TRAIN + 100
    )
    held_out, train = dataset.samples[:100], dataset.samples[100:]
    return Case(
        learner=alternating_minimization.alternating_minimization(train.shape[1]),
        recover=lambda params, live: sparse_coding.recover(
            dataset.truth, params, sparse_coding.usage(params, held_out), live
        ),
        train=train,
        held_out=held_out,
        levels=(31, 32),
    )


def _neural_pcfg() -> Case:
    truth = pcfg_data.random_grammar(jax.random.key(0), 3, 3, 12, sharpness=3.0)
    samples = pcfg_data.from_truth(
        "random", jax.random.key(1), truth, _NUM_TRAIN + 100, max_words=3
    ).samples
    return Case(
        learner=neural_pcfg.neural_pcfg(12, neural_pcfg.NeuralPcfgConfig(dimension=16)),
        recover=lambda params, live: Recovery(*[jnp.int32(0)] * 7, measures={}),
        train=samples[100:],
        held_out=samples[:100],
        levels=((17, 19), (18, 20)),
        compiles_for_long=True,
    )


_CASES = {
    "nvil": _nvil,
    "alternating_minimization": _alternating_minimization,
    "neural_pcfg": _neural_pcfg,
}


@pytest.fixture(scope="module", params=list(_CASES))
def case(request) -> Case:
    return _CASES[request.param]()


def _train(sweep_, stop, runs=None, start=0):
    """Runs and records on the host, from there or from the beginning."""
    runs = sweep_.init() if runs is None else sweep_.place(runs)
    chunks = list(sweep_.train(runs, start, stop))
    records = [
        jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *parts)
        for parts in zip(*(chunk.records for chunk in chunks), strict=True)
    ]
    return sweep_.gather(chunks[-1].runs), records


@pytest.fixture(scope="module")
def mixed(case) -> Sweep:
    """Two levels in one group and three seeds, in blocks of two on two devices."""
    sweep_ = case.sweep(
        case.levels, (0, 1, 2), epochs_per_call=2, snapshot_every=2, block=2
    )
    assert len(sweep_.groups) == 1
    return sweep_


@pytest.fixture(scope="module")
def trained(mixed):
    """Its runs after two epochs, 50 steps, and their records."""
    (runs,), (records,) = _train(mixed, 2)
    return runs, records


@pytest.fixture
def quick_case(case) -> Case:
    if case.compiles_for_long:
        pytest.skip("compiles for long")
    return case


def _leaves(tree):
    """Arrays, with random keys as their numbers."""
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        for leaf in jax.tree.leaves(tree)
    ]


def _live_part(leaf, live):
    """An array of parameters without dead latents: an axis of latents, of one kind or
    of all kinds in a row, is told by its size, which no other axis has.
    """
    kinds = [np.asarray(mask) > 0 for mask in jax.tree.leaves(live)]
    masks = {mask.size: mask for mask in [*kinds, np.concatenate(kinds)]}
    for axis, size in enumerate(leaf.shape):
        if size in masks:
            leaf = leaf.compress(masks[size], axis)
    return leaf


def _run_of(sweep_, tree, level, seed):
    (group,) = sweep_.groups
    index = list(zip(group.levels, group.seeds, strict=True)).index((level, seed))
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_everything_is_finite(trained):
    runs, records = trained
    assert not runs.diverged.any()
    for leaf in jax.tree.leaves((runs.state.params, records)):
        assert np.isfinite(leaf).all()


def test_learning_raises_the_held_out_objective(mixed, trained):
    (first,), _ = _train(mixed, 1)
    assert (trained[0].objective > first.objective).all()


def test_step_is_the_same_without_jit(quick_case):
    live = plan.live_mask(quick_case.levels[0], quick_case.levels[0])
    batch = quick_case.batch
    state = quick_case.learner.init(jax.random.key(0), live)
    compiled, info = jax.jit(quick_case.learner.step)(
        jax.random.key(1), state, live, batch
    )
    with jax.disable_jit():
        plain, plain_info = quick_case.learner.step(
            jax.random.key(1), state, live, batch
        )
    np.testing.assert_allclose(info.objective, plain_info.objective, rtol=1e-5)
    for a, b in zip(_leaves(compiled.params), _leaves(plain.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_no_bit_of_a_run_depends_on_the_others(quick_case, mixed, trained):
    """Alone, in blocks that spare runs fill."""
    level, seed = quick_case.levels[0], 1
    alone = quick_case.sweep(
        (level,), (seed,), epochs_per_call=2, snapshot_every=2, block=2
    )
    (runs,), (records,) = _train(alone, 2)
    own = _run_of(alone, (runs, records), level, seed)
    other = _run_of(mixed, trained, level, seed)
    for a, b in zip(_leaves(own), _leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_and_devices_change_a_run_by_rounding_alone(quick_case, mixed):
    """The same draws, and the same parameters after 25 steps."""
    level = quick_case.levels[0]
    together = quick_case.sweep((level,), (0, 1, 2), num_devices=1, epochs_per_call=2)
    own, other = (
        _run_of(sweep_, _train(sweep_, 1)[0][0], level, 1)
        for sweep_ in (together, mixed)
    )
    for a, b in zip(_leaves(own), _leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_padding_changes_no_draw_and_no_step(quick_case):
    """The learner by itself, for 50 steps, padded and not."""
    level, wider = quick_case.levels

    @jax.jit
    def train(live):
        state = quick_case.learner.init(jax.random.key(0), live)
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(25, 20, *leaf.shape[1:]), quick_case.train
        )

        def step(state, inputs):
            return quick_case.learner.step(inputs[0], state, live, inputs[1])

        keys = jax.random.split(jax.random.key(1), 25)
        state, _ = jax.lax.scan(step, state, (keys, batches))
        return jax.lax.scan(step, state, (keys, batches))[0].params

    live = plan.live_mask(level, wider)
    alone, padded = train(plan.live_mask(level, level)), train(live)
    for a, b in zip(_leaves(alone), _leaves(padded), strict=True):
        b = _live_part(b, live)
        assert b.shape == a.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_cutting_epochs_into_calls_changes_no_bit(quick_case, mixed):
    cut = quick_case.sweep(
        quick_case.levels, (0, 1, 2), epochs_per_call=3, snapshot_every=2, block=2
    )
    for a, b in zip(_leaves(_train(mixed, 4)), _leaves(_train(cut, 4)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resuming_from_host_arrays_changes_no_bit(mixed, trained):
    whole, _ = _train(mixed, 4)
    resumed, _ = _train(mixed, 4, runs=(trained[0],), start=2)
    for a, b in zip(_leaves(whole), _leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_seeds_are_independent(case, mixed, trained):
    one, other = (_run_of(mixed, trained[0], case.levels[0], s) for s in (0, 1))
    for a, b in zip(
        _leaves(one.state.params), _leaves(other.state.params), strict=True
    ):
        assert (a != b).any()


def test_dead_latents_do_not_matter(case, mixed, trained):
    """Whatever a padded latent's parameters are, nothing else changes."""
    run = _run_of(mixed, trained[0], case.levels[0], 0)
    for mask in jax.tree.leaves(run.live):
        assert 0 < mask.sum() < mask.size

    def disturb(leaf):
        index = np.arange(leaf.size).reshape(leaf.shape)
        is_live = np.isin(index, _live_part(index, run.live))
        return np.where(is_live, leaf, leaf * 0.5)

    disturbed = run.state._replace(params=jax.tree.map(disturb, run.state.params))
    step = jax.jit(functools.partial(case.learner.step, jax.random.key(0)))
    plain, plain_info = step(run.state, run.live, case.batch)
    moved, moved_info = step(disturbed, run.live, case.batch)
    np.testing.assert_array_equal(plain_info.objective, moved_info.objective)
    for a, b in zip(_leaves(plain.params), _leaves(moved.params), strict=True):
        np.testing.assert_array_equal(_live_part(a, run.live), _live_part(b, run.live))


def test_a_diverged_run_is_marked_and_its_siblings_go_on(mixed, trained):
    (runs,) = mixed.gather(mixed.init())

    def poison(leaf):
        leaf[1] = np.nan
        return leaf

    params = jax.tree.map(poison, runs.state.params)
    poisoned = runs._replace(state=runs.state._replace(params=params))
    (runs,), (records,) = _train(mixed, 2, runs=(poisoned,))
    assert runs.diverged.tolist() == [False, True] + [False] * 4
    assert records.recovery["num_recovered"][1].tolist() == [0, 0]
    others = [0, 2, 3, 4, 5]
    for a, b in zip(_leaves((runs, records)), _leaves(trained), strict=True):
        np.testing.assert_array_equal(a[others], b[others])


def test_kept_model_is_the_best_snapshot_or_the_last(case, mixed):
    objectives, params = [], []
    for chunk in mixed.train(mixed.init(), 0, 5):
        objectives.append(np.asarray(chunk.runs[0].objective))
        params.append(jax.device_get(chunk.runs[0].state.params))
    assert len(objectives) == 3  # after 2 and 4 epochs, the snapshots, and 5
    kept = mixed.kept(chunk.runs, chunk.epoch)
    best = np.argmax(objectives, axis=0)
    for index, level in enumerate(case.levels):
        own = slice(3 * index, 3 * index + 3)
        np.testing.assert_array_equal(
            kept[level].objective, np.max(objectives, axis=0)[own]
        )
        np.testing.assert_array_equal(kept[level].epoch, np.array([2, 4, 5])[best[own]])
        for run in range(3):
            expected = jax.tree.map(
                lambda leaf, run=run, own=own: leaf[own][run], params[best[own][run]]
            )
            actual = jax.tree.map(lambda leaf, run=run: leaf[run], kept[level].params)
            for a, b in zip(_leaves(actual), _leaves(expected), strict=True):
                np.testing.assert_array_equal(a, b)


def test_plan_holds_every_run_once_and_pads_little():
    groups = plan.plan((8, 64, 61, 10, 62, 3), (5, 6))
    pairs = [
        pair for group in groups for pair in zip(group.levels, group.seeds, strict=True)
    ]
    assert sorted(pairs) == sorted(
        (level, seed) for level in (3, 8, 10, 61, 62, 64) for seed in (5, 6)
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
    (group,) = plan.plan(((17, 20), (18, 19)), (0,))
    assert group.width == (18, 20)
    masks = plan.live_mask((17, 20), (18, 20))
    assert [mask.sum() for mask in masks] == [17, 20]


def test_runs_of_a_level_and_seed_have_their_own_key():
    keys = [
        tuple(jax.random.key_data(plan.run_key(seed, level)).tolist())
        for seed in (0, 1, 8, 16)
        for level in (1, 8, 16, (8, 16), (16, 8))
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": (0,)}, "levels of at least 1 and below 2147483648, got 0"),
        ({"levels": ()}, "levels without repeats"),
        ({"seeds": (1, 1)}, "seeds without repeats"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
    ],
)
def test_config_refuses_what_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**{"levels": (1,), "seeds": (0,), **settings})


def test_a_batch_larger_than_the_data_is_refused(case):
    with pytest.raises(ValueError, match="at most 500, the number of training"):
        case.sweep(case.levels, (0,), batch_size=501)
