"""What a sweep gives to learners and keeps of them, by one that writes it down."""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_runs import run_of, train_runs

from lvm_jax.sweep import Plan, Sweep
from lvm_jax.training.results import choose_kept
from lvm_jax.types import Buckets, Info, Learner, Task


class _Script(NamedTuple):
    """What a run of the logger measures: its best record, and where it fails."""

    best: int
    bad_step: int = -1
    bad_record: int = -1


class _Log(NamedTuple):
    """What a learner has been given at each of 40 steps; `params` counts them."""

    params: jax.Array
    samples: jax.Array
    keys: jax.Array


def _logger(script):
    """A learner that learns nothing and writes down its batches and keys."""

    def init(key, live, train):
        del key, live, train
        return _Log(jnp.int32(0), jnp.zeros((40, 3)), jnp.zeros((40, 2), jnp.uint32))

    def step(key, state, live, batch):
        del live
        count, numbers = state.params, jax.random.key_data(key)
        state = _Log(
            count + 1,
            state.samples.at[count].set(batch),
            state.keys.at[count].set(numbers),
        )
        objective = jnp.where(count == script.bad_step, jnp.nan, 0.0)
        return state, Info(objective, {"count": jnp.float32(count)})

    def evaluate(key, state, live, data):
        del live, data
        high, low = jax.random.key_data(key)
        record = state.params // 4
        objective = -jnp.abs(record - script.best)
        objective = jnp.where(record == script.bad_record, jnp.nan, objective)
        return Info(objective, {"high": high, "low": low})

    return Learner(init, step, evaluate, lambda params, live: params)


# By name: the script, the epoch that is kept and the records that have diverged, of
# five epochs of two records each; snapshots are taken after two and four.
_SCRIPTS = {
    "a snapshot is best": (_Script(4), 2, []),
    "the end is best": (_Script(10), 5, []),
    "best between snapshots": (_Script(6), 2, []),
    "the last snapshot is as good as the end": (_Script(9), 4, []),
    "a step fails": (_Script(10, bad_step=17), 2, range(5, 11)),
    "a record within an epoch fails": (_Script(8, bad_record=7), 4, [7]),
    "a record of an epoch's end fails": (_Script(10, bad_record=8), 2, range(8, 11)),
    "the first step fails": (_Script(1, bad_step=0), 0, range(1, 11)),
}


@pytest.fixture(scope="module")
def logger():
    """A sweep of two buckets of 13 samples, four batches of three each."""
    parts = np.arange(13.0), 100 + np.arange(13.0)
    task = Task(name="log", learner=_logger, train=Buckets(parts), held_out=parts[0])
    plan_ = Plan(
        levels=(1,),
        seeds=(0, 1),
        settings={name: script for name, (script, *_) in _SCRIPTS.items()},
        batch_size=3,
        records_per_epoch=2,
        snapshot_every=2,
        epochs_per_call=2,
    )
    return Sweep(task, plan_, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def written(logger):
    """Its runs and records after five epochs."""
    (runs,), (records,) = train_runs(logger, 5)
    assert (runs.state.params == 40).all()
    return runs, records


@pytest.fixture(scope="module")
def logged(written):
    """Batches and keys of the first two runs, two seeds, [run, epoch, step, ...], and
    keys of evaluations, [run, epoch, record, 2].
    """
    runs, records = written
    evaluations = np.stack([records.held_out["high"], records.held_out["low"]], -1)
    return (
        runs.state.samples[:2].reshape(2, 5, 8, 3).astype(int),
        runs.state.keys[:2].reshape(2, 5, 8, 2),
        evaluations[:2].reshape(2, 5, 2, 2),
    )


@pytest.mark.parametrize("name", _SCRIPTS)
def test_what_is_kept_and_what_has_diverged(logger, written, name):
    runs, records = written
    kept = choose_kept(runs, 5)
    script, epoch, diverged = _SCRIPTS[name]
    own = run_of(logger, (kept, records), 1, 0, name)
    assert own[0].epoch == epoch and own[0].params == 8 * epoch
    assert own[0].objective == (-abs(2 * epoch - script.best) if epoch else -np.inf)
    assert (np.flatnonzero(own[1].diverged) + 1).tolist() == list(diverged)
    assert own[0].diverged == (10 in diverged)
    np.testing.assert_array_equal(own[1].train["count"], np.arange(10) * 4 + 1.5)


def test_what_is_kept_has_the_mask_that_the_run_ends_with(logger):
    def with_fewer_after_three_epochs(script):
        def revise(key, state, live, num_epochs):
            del key
            return state, jnp.where(num_epochs == 3, 0.0, live)

        return _logger(script)._replace(revise=revise)

    task = dataclasses.replace(logger.task, learner=with_fewer_after_three_epochs)
    sweep_ = Sweep(task, logger.plan, devices=jax.devices()[:1])
    for stop, epoch, live in ((3, 2, 1.0), (5, 4, 0.0)):
        (runs,), _ = train_runs(sweep_, stop)
        kept = run_of(sweep_, choose_kept(runs, stop), 1, 0, "a snapshot is best")
        assert (kept.epoch, kept.live) == (epoch, [live])
        assert kept.params == 8 * epoch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": lambda *_: ()}, "a state with a field `params` from `init`, got"),
        (
            {"evaluate": lambda *_: Info(jnp.zeros(2), {})},
            r"a scalar as objective .* got shapes \(\) and \(2,\)",
        ),
        (
            {"step": lambda key, state, *_: (state, Info(jnp.zeros(3), {}))},
            r"a scalar as objective .* got shapes \(3,\) and \(\)",
        ),
    ],
)
def test_a_learner_that_breaks_the_contract_is_refused(logger, change, message):
    def broken(script):
        return _logger(script)._replace(**change)

    task = dataclasses.replace(logger.task, learner=broken)
    with pytest.raises(ValueError, match=message):
        Sweep(task, logger.plan, devices=jax.devices()[:1]).record_shapes(1)


def test_a_chunk_is_lowered_for_devices_that_a_sweep_does_not_have(logger):
    one, *others = jax.devices()
    sweep_ = Sweep(logger.task, logger.plan, devices=[one])
    lowered = sweep_.lower(others)
    assert lowered.compile().input_shardings[0][1][0].live.device_set == {*others}
    runs, _ = lowered.out_info
    for found, expected in zip(
        jax.tree.leaves(runs[0].state),
        jax.tree.leaves(sweep_.run_shapes()[0].state),
        strict=True,
    ):
        assert found.shape[1:] == expected.shape[1:]


def test_every_run_epoch_and_bucket_has_batches_of_its_own(logged):
    samples, _, _ = logged
    buckets = samples[..., 0] // 100
    batches = {}
    for run, epoch, bucket in itertools.product(range(2), range(5), range(2)):
        own = samples[run, epoch][buckets[run, epoch] == bucket] - 100 * bucket
        assert len(set(own.flat)) == 12 and set(own.flat) < set(range(13))
        batches[run, epoch, bucket] = frozenset(map(tuple, own.tolist()))
    assert len(set(batches.values())) == len(batches)
    np.testing.assert_array_equal(buckets[0], buckets[1])
    assert len(np.unique(buckets[0], axis=0)) > 1


def test_every_step_and_evaluation_has_a_key_of_its_own(logged):
    _, *keys = logged
    numbers = np.concatenate([leaf.reshape(-1, 2) for leaf in keys])
    assert len(np.unique(numbers, axis=0)) == len(numbers)


def test_a_truth_needs_something_to_compare_it_by():
    with pytest.raises(ValueError, match="a function `recover` for the truth of a"):
        Task(name="a", learner=None, train=None, held_out=None, truth=1)
