"""What the sweep asks of a learner, for every learner.

A learner has one row here: how to make it, its data, and levels that share a group.
"""

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_runs import run_of, train_runs

import lvm_jax
from lvm_jax import noisy_or, pcfg, sparse_coding
from lvm_jax.noisy_or import revision
from lvm_jax.sweep import Plan, Sweep, plan
from lvm_jax.types import Learner, Task

_NUM_TRAIN, _NUM_HELD_OUT = 500, 100
_BATCH_SIZE = 20  # 25 steps an epoch
_FEW, _FEW_HELD_OUT = 100, 20  # of learners that are slow in each sample


@dataclasses.dataclass(frozen=True)
class Case:
    """A learner with its data; `levels` are padded to the last.

    A learner that compiles for long is left out where a test compiles anew, and has a
    test of its own for padding.
    """

    task: Task
    settings: dict[str, Any]
    levels: tuple[Any, ...]
    compiles_for_long: bool = False
    batch_size: int = _BATCH_SIZE
    num_train: int = _NUM_TRAIN

    @property
    def learner(self) -> Learner:
        return self.task.learner(self.settings["first"])

    @property
    def batch(self) -> Any:
        train = self.task.train
        (train,) = getattr(train, "parts", (train,))
        return jax.tree.map(lambda leaf: leaf[: self.batch_size], train)

    def sweep(self, levels, seeds, num_devices=2, settings=None, **fields) -> Sweep:
        """By default at all settings."""
        return Sweep(
            self.task,
            Plan(
                levels=levels,
                seeds=seeds,
                settings=self.settings if settings is None else settings,
                **{"batch_size": self.batch_size, **fields},
            ),
            devices=jax.devices()[:num_devices],
        )


def _revised_nvil(num_observed, hyperparams) -> Learner:
    """NVIL whose latents are pruned after two epochs and renewed after three."""
    prune, renew = revision.pruned(2), revision.renewed(3, 3)

    def revise(key, state, live, num_epochs):
        state, live = prune(key, state, live, num_epochs)
        return renew(key, state, live, num_epochs)

    return noisy_or.nvil(num_observed, hyperparams)._replace(revise=revise)


def _nvil() -> Case:
    dataset = noisy_or.make("IMG", lvm_jax.key(0), _NUM_TRAIN + _NUM_HELD_OUT)
    task = noisy_or.task(dataset, _revised_nvil, num_held_out=_NUM_HELD_OUT)
    return Case(
        dataclasses.replace(task, trace=noisy_or.trace),
        {
            "first": noisy_or.NvilHyperparams(),
            "second": noisy_or.NvilHyperparams(0.1, 0.02, 1e-3),
        },
        levels=(17, 18),
    )


def _without_critic(learner) -> Case:
    case = _nvil()
    task = dataclasses.replace(case.task, learner=functools.partial(learner, 64))
    rates = noisy_or.VariationalHyperparams
    settings = {"first": rates(), "second": rates(0.1, 0.02)}
    return dataclasses.replace(case, task=task, settings=settings)


def _mean_field() -> Case:
    dataset = noisy_or.make("IMG", lvm_jax.key(0), _FEW + _FEW_HELD_OUT)
    learner = functools.partial(noisy_or.mean_field, num_sweeps=1, num_draws=2)
    return Case(
        noisy_or.task(dataset, learner, num_held_out=_FEW_HELD_OUT),
        {
            "first": noisy_or.MeanFieldHyperparams(),
            "second": noisy_or.MeanFieldHyperparams(0.1),
        },
        levels=(17, 18),
        batch_size=4,
        num_train=_FEW,
    )


def _em(learner, first, second) -> Case:
    """With E-steps that end early, as tests need no better ones."""
    dataset = noisy_or.make("IMG", lvm_jax.key(0), _FEW + _FEW_HELD_OUT)
    return Case(
        noisy_or.task(dataset, learner, num_held_out=_FEW_HELD_OUT),
        {"first": first, "second": second},
        levels=(17, 18),
        compiles_for_long=True,
        batch_size=_FEW,  # A step forgets all batches but its own.
        num_train=_FEW,
    )


def _alternating_minimization() -> Case:
    num_samples = _NUM_TRAIN + _NUM_HELD_OUT
    dataset = sparse_coding.make(lvm_jax.key(0), 10.0, num_samples=num_samples)
    return Case(
        sparse_coding.task(dataset, num_held_out=_NUM_HELD_OUT),
        {
            "first": sparse_coding.AlternatingMinimizationHyperparams(),
            "second": sparse_coding.AlternatingMinimizationHyperparams(0.2, 0.01),
        },
        levels=(31, 32),
    )


def _masked() -> Case:
    case = _alternating_minimization()
    task = dataclasses.replace(
        case.task, learner=functools.partial(sparse_coding.masked, 100)
    )
    numbers = sparse_coding.MaskedHyperparams
    settings = {"first": numbers(), "second": numbers(0.2, guard=0.01, hidden=0.2)}
    return dataclasses.replace(case, task=task, settings=settings)


def _maximum_likelihood() -> Case:
    grammar = pcfg.random_grammar(lvm_jax.key(0), 3, 3, 12, sharpness=3.0)
    samples = pcfg.from_truth(
        "random", lvm_jax.key(1), grammar, _NUM_TRAIN + _NUM_HELD_OUT, max_words=3
    ).samples
    return Case(
        Task(
            name="random",
            learner=functools.partial(pcfg.maximum_likelihood, 12, dimension=16),
            train=samples[_NUM_HELD_OUT:],
            held_out=samples[:_NUM_HELD_OUT],
            recover=pcfg.recover,
        ),
        {
            "first": pcfg.MaximumLikelihoodHyperparams(),
            "second": pcfg.MaximumLikelihoodHyperparams(0.002, 1.0),
        },
        levels=((17, 19), (18, 20)),
        compiles_for_long=True,
    )


_CASES = {
    "nvil": _nvil,
    "local_expectation": lambda: _without_critic(noisy_or.local_expectation),
    "rloo": lambda: _without_critic(noisy_or.rloo),
    "mean_field": _mean_field,
    "em": lambda: _em(
        noisy_or.em, noisy_or.EmHyperparams(1e-2), noisy_or.EmHyperparams(1e-3)
    ),
    "gradient_em": lambda: _em(
        noisy_or.gradient_em,
        noisy_or.GradientEmHyperparams(10.0, 1e-2),
        noisy_or.GradientEmHyperparams(5.0, 1e-2),
    ),
    "alternating_minimization": _alternating_minimization,
    "masked": _masked,
    "maximum_likelihood": _maximum_likelihood,
}
# One learner of gradients, of everything that a learner may have, and one of none.
_FAST = ("nvil", "alternating_minimization")
_PARAMS = [
    pytest.param(name, marks=() if name in _FAST else pytest.mark.slow)
    for name in _CASES
]


@pytest.fixture(scope="module", params=_PARAMS)
def case(request) -> Case:
    return _CASES[request.param]()


@pytest.fixture(scope="module")
def mixed(case) -> Sweep:
    """Two levels in one group, two settings and three seeds, in blocks of two on two
    devices.
    """
    sweep_ = case.sweep(
        case.levels, (0, 1, 2), epochs_per_call=2, snapshot_every=2, block=2
    )
    assert len(sweep_.groups) == 1
    return sweep_


@pytest.fixture(scope="module")
def trained(mixed):
    """Its runs after two epochs, 50 steps, and their records."""
    (runs,), (records,) = train_runs(mixed, 2)
    return runs, records


@pytest.fixture(scope="module")
def whole(mixed):
    """Its runs after four epochs, two calls, and their records."""
    (runs,), (records,) = train_runs(mixed, 4)
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


def _disturbed(leaf, live):
    """The leaf with other numbers for dead latents."""
    index = np.arange(leaf.size).reshape(leaf.shape)
    is_live = np.isin(index, _live_part(index, live))
    return np.where(is_live, leaf, leaf * 0.5 + 0.1)


def test_everything_is_finite(trained):
    runs, records = trained
    assert not runs.diverged.any()
    for leaf in jax.tree.leaves((runs.state.params, records)):
        assert np.isfinite(leaf).all()


def test_learning_raises_the_held_out_objective(mixed, trained):
    (first,), _ = train_runs(mixed, 1)
    assert (trained[0].objective > first.objective).all()


@pytest.mark.slow  # Every operation is compiled by itself.
def test_step_is_the_same_without_jit(quick_case):
    live = plan.live_mask(quick_case.levels[0], quick_case.levels[0])
    batch = quick_case.batch
    state = quick_case.learner.init(jax.random.key(0), live, quick_case.task.train)
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


def _scattered_additions(function, *arguments):
    """Those of floats in what an accelerator would run."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
    scatters = re.findall(
        r'"stablehlo.scatter".*?stablehlo.return', lowered.as_text(), re.DOTALL
    )
    additions = re.compile(r"unique_indices = false.*stablehlo.add .*<f", re.DOTALL)
    return list(filter(additions.search, scatters))


def test_an_accelerator_adds_up_no_floats_in_an_order_of_chance(case):
    """Scattered additions would come in any order and round differently every time."""
    look_up = jax.grad(lambda table, index: table[index].sum())
    assert len(_scattered_additions(look_up, jnp.ones(9), jnp.zeros(3, int))) == 1
    live = plan.live_mask(case.levels[0], case.levels[0])

    def learn(key, train, held_out, batch):
        state = case.learner.init(key, live, train)
        state, _ = case.learner.step(key, state, live, batch)
        return case.learner.evaluate(key, state, live, held_out)

    arguments = (jax.random.key(0), case.task.train, case.task.held_out, case.batch)
    assert not _scattered_additions(learn, *arguments)


def _check_equal(one, other):
    for a, b in zip(_leaves(one), _leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("setting", ["first", "second"])
def test_no_bit_of_a_run_depends_on_the_others_or_on_calls(case, mixed, whole, setting):
    """Alone, in blocks that spare runs fill, at a setting of another name, and in
    calls of three epochs and one.
    """
    level, seed = case.levels[0], 1
    alone = case.sweep(
        (level,),
        (seed,),
        settings={"alone": {level: case.settings[setting]}},
        epochs_per_call=3,
        snapshot_every=2,
        block=2,
    )
    (runs,), (records,) = train_runs(alone, 4)
    own = run_of(alone, (runs, records), level, seed, "alone")
    _check_equal(own, run_of(mixed, whole, level, seed, setting))


def test_settings_share_key_start_and_batches_and_differ_in_what_is_learned(
    case, mixed, trained
):
    (start,) = mixed.gather(mixed.init())
    for level, seed in itertools.product(case.levels, (0, 1, 2)):
        one, other = (run_of(mixed, start, level, seed, name) for name in case.settings)
        # A threshold or a rate may be a leaf of what is learned.
        _check_equal((one.key, one.live), (other.key, other.live))
        starts = [_leaves(run.state.params) for run in (one, other)]
        arrays = [(a, b) for a, b in zip(*starts, strict=True) if a.ndim]
        for a, b in arrays:
            np.testing.assert_array_equal(a, b)
        ends = [
            _leaves(run_of(mixed, trained[0], level, seed, name).state.params)
            for name in case.settings
        ]
        assert any((a != b).any() for a, b in zip(*ends, strict=True))


def test_a_setting_may_differ_from_level_to_level(case, mixed, trained):
    by_level = dict(zip(case.levels, case.settings.values(), strict=True))
    other = case.sweep(
        case.levels,
        (0, 1, 2),
        settings={"by level": by_level, "other": case.settings["first"]},
        epochs_per_call=2,
        snapshot_every=2,
        block=2,
    )
    (runs,), (records,) = train_runs(other, 2)
    for level, setting in zip(case.levels, case.settings, strict=True):
        own = run_of(other, (runs, records), level, 0, "by level")
        _check_equal(own, run_of(mixed, trained, level, 0, setting))


@pytest.mark.parametrize("case", ["alternating_minimization"], indirect=True)
def test_records_within_an_epoch_change_nothing_that_is_learned(case, mixed, trained):
    """Of any learner: the last of an epoch is its one record, the others between."""
    fine = case.sweep(
        case.levels,
        (0, 1, 2),
        records_per_epoch=5,
        epochs_per_call=2,
        snapshot_every=2,
        block=2,
    )
    (runs,), (records,) = train_runs(fine, 2)
    _check_equal(runs, trained[0])
    at_ends = jax.tree.map(lambda leaf: leaf[:, 4::5], records)
    for a, b in zip(
        _leaves(at_ends._replace(train={})),
        _leaves(trained[1]._replace(train={})),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    for name, values in records.train.items():
        parts = values.reshape(len(values), 2, 5)
        np.testing.assert_allclose(parts.mean(2), trained[1].train[name], rtol=1e-4)
        assert (parts[:, 0, 0] != parts[:, 0, 4]).all()


def test_an_epoch_that_cannot_be_cut_into_its_records_is_refused(case):
    steps = case.num_train // case.batch_size
    with pytest.raises(ValueError, match=f"the {steps} steps of an epoch, got 7"):
        case.sweep(case.levels, (0,), records_per_epoch=7)


def test_blocks_and_devices_change_a_run_by_rounding_alone(quick_case, mixed):
    """The same draws, and the same parameters after 25 steps."""
    level = quick_case.levels[0]
    together = quick_case.sweep(
        (level,), (0, 1, 2), num_devices=1, epochs_per_call=2, block=6
    )
    own, other = (
        run_of(sweep_, train_runs(sweep_, 1)[0][0], level, 1)
        for sweep_ in (together, mixed)
    )
    for a, b in zip(_leaves(own), _leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_padding_changes_no_draw_and_no_step(quick_case):
    """The learner by itself, for 50 steps, padded and not."""
    level, wider = quick_case.levels
    batch_size = quick_case.batch_size

    @jax.jit
    def train(live, samples):
        state = quick_case.learner.init(jax.random.key(0), live, samples)
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(-1, batch_size, *leaf.shape[1:]), samples
        )

        def step(state, inputs):
            return quick_case.learner.step(inputs[0], state, live, inputs[1])

        keys = jax.random.split(jax.random.key(1), quick_case.num_train // batch_size)
        state, _ = jax.lax.scan(step, state, (keys, batches))
        return jax.lax.scan(step, state, (keys, batches))[0].params

    live = plan.live_mask(level, wider)
    samples = quick_case.task.train
    alone, padded = train(plan.live_mask(level, level), samples), train(live, samples)
    for a, b in zip(_leaves(alone), _leaves(padded), strict=True):
        b = _live_part(b, live)
        assert b.shape == a.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_resuming_from_host_arrays_changes_no_bit(mixed, whole):
    runs, _ = train_runs(mixed, 3)  # A learner that revises its mask has done so.
    assert mixed.has(runs)
    (resumed,), _ = train_runs(mixed, 4, runs=runs, start=3)
    _check_equal(resumed, whole[0])


def test_seeds_are_independent(case, mixed, trained):
    """In what is learned: a mean of the data is not, nor what bounds an encoder."""
    (start,) = mixed.gather(mixed.init())
    before, one, other = (
        _leaves(run_of(mixed, runs, case.levels[0], seed).state.params)
        for runs, seed in ((start, 0), (trained[0], 0), (trained[0], 1))
    )
    names = getattr(run_of(mixed, start, case.levels[0], 0).state.params, "_fields", ())
    num_fixed = max(len({"threshold", "guard"} & {*names}), 1)
    learned = [
        (a, b) for a, b, c in zip(one, other, before, strict=True) if (a != c).any()
    ]
    assert learned and len(learned) >= len(one) - num_fixed
    for a, b in learned:
        assert (a != b).any()


def test_dead_latents_do_not_matter(case, mixed, trained):
    """Whatever a padded latent's parameters are, nothing else changes."""
    run = run_of(mixed, trained[0], case.levels[0], 0)
    for mask in jax.tree.leaves(run.live):
        assert 0 < mask.sum() < mask.size

    moved = jax.tree.map(lambda leaf: _disturbed(leaf, run.live), run.state.params)
    disturbed = run.state._replace(params=moved)
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
    (runs,), (records,) = train_runs(mixed, 2, runs=(poisoned,))
    assert runs.diverged.tolist() == [False, True] + [False] * 10
    if records.recovery:
        assert records.recovery["num_recovered"][1].tolist() == [0, 0]
    others = [0, *range(2, 12)]
    for a, b in zip(_leaves((runs, records)), _leaves(trained), strict=True):
        np.testing.assert_array_equal(a[others], b[others])


def test_evaluation_and_model_do_not_see_dead_latents(case, mixed, trained):
    run = run_of(mixed, trained[0], case.levels[0], 0)
    moved = jax.tree.map(lambda leaf: _disturbed(leaf, run.live), run.state.params)
    evaluate = jax.jit(case.learner.evaluate)
    for a, b in itertools.pairwise(
        evaluate(jax.random.key(0), state, run.live, case.task.held_out)
        for state in (run.state, run.state._replace(params=moved))
    ):
        _check_equal(a, b)
    if case.compiles_for_long:
        pytest.skip("compiles for long")
    model, recover = jax.jit(case.learner.model), jax.jit(case.task.recover)
    plain, other = model(run.state.params, run.live), model(moved, run.live)
    found = recover(plain, plain, run.live, case.task.held_out)
    _check_equal(found, recover(plain, other, run.live, case.task.held_out))
    # In place of a truth, as models are compared with one another.
    dead = np.asarray(run.live) == 0
    assert dead.any() and (np.asarray(found.matched)[dead] == -1).all()
    _check_equal(found, recover(other, plain, run.live, case.task.held_out))


def test_a_batch_larger_than_the_data_is_refused(case):
    most = case.num_train
    with pytest.raises(ValueError, match=f"at most {most}, the number of training"):
        case.sweep(case.levels, (0,), batch_size=most + 1)


def test_a_level_that_no_memory_holds_is_refused_before_it_is_made(case):
    level = jax.tree.map(lambda _: 2**31 - 1, case.levels[0])
    with pytest.raises(ValueError, match="expected levels that fit into"):
        case.sweep((*case.levels, level), (0,))
