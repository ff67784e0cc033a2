"""What runs of a level have in common, and the level that is recommended by it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or import model
from lvm_jax.types import Info, Learner


class _State(NamedTuple):
    """Of a learner that learns nothing."""

    params: noisy_or.NoisyOr


class _Nothing(NamedTuple):
    """Its hyperparameters."""

    number: float = 0.0


def _still(num_observed, hyperparams):
    """A learner whose parameters are networks without structure, and stay so."""
    del hyperparams
    info = Info(jnp.float32(0), {"nothing": jnp.float32(0)})

    def init(key, live, train):
        del key, train
        failure = jnp.zeros((live.size, num_observed))
        return _State(noisy_or.NoisyOr(failure[:, 0], failure, failure[0]))

    return Learner(
        init,
        lambda key, state, live, batch: (state, info),
        lambda key, state, live, data: info,
        model.mask,
    )


def _pictures(latents, width):
    """A network of IMG's latents of these numbers, and unused ones up to a width."""
    img, spare = noisy_or.img(), width - len(latents)
    own = np.array(latents)
    return noisy_or.NoisyOr(
        np.pad(img.prior_logits[own], (0, spare), constant_values=-30),
        np.pad(img.failure_logits[own] + 0.01, ((0, spare), (0, 0))),
        np.asarray(img.noise_logits),
    )


def _results(latents):
    """A task, and results whose runs have kept IMG's latents of these numbers.

    Args:
      latents: of each of three runs, by level.
    """
    dataset = noisy_or.make("CON8", lvm_jax.key(3), 120)._replace(truth=None)
    task = noisy_or.task(dataset, _still, num_held_out=20)
    plan = lvm_jax.Plan(levels=latents, seeds=(0, 1, 2), settings={"a": _Nothing()})
    results = lvm_jax.train(task, plan, 1, progress=lambda progress: None)
    for level, of_runs in latents.items():
        kept = results.kept[level]
        networks = [_pictures(own, kept.live.shape[-1]) for own in of_runs]
        params = jax.tree.map(lambda *leaves: np.stack(leaves)[None], *networks)
        results.kept[level] = kept._replace(params=params)
    return task, results


@pytest.fixture(scope="module")
def differing():
    """Three runs with pictures of IMG, some of them twice."""
    return _results({4: [[0, 1, 2, 2], [2, 1, 0, 3], [4, 5, 6, 7]]})


@pytest.fixture(scope="module")
def levels():
    """Three equal runs of each of four levels of one width."""
    own = {33: [0, 1], 34: [0, 1, 2, 7], 35: [0, 1, 2, 3], 36: [0, 1, 2]}
    return _results({level: [latents] * 3 for level, latents in own.items()})


def test_agreement_is_the_share_of_survivors_that_another_run_has(differing):
    shares = lvm_jax.agreement(*differing)[4]
    assert shares.shape == (1, 3, 3)
    # The first run has a duplicate, which is no survivor.
    expected = [[1, 1, 0], [3 / 4, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(shares[0], expected)


def test_what_two_of_three_runs_have_is_their_consensus(differing):
    (found,) = lvm_jax.consensus(*differing)[4]
    assert sorted(found.member.tolist()) == [[0, 2, -1], [1, 1, -1], [2, 0, -1]]
    assert found.share.tolist() == [0.5] * 3
    assert len(set(found.medoid.tolist())) == 1 and found.medoid[0] < 2
    img = noisy_or.img()
    truth = found.member[:, 0]  # the first run's latents are truths in order
    np.testing.assert_allclose(found.latents["prior"], img.prior[truth], rtol=1e-5)
    np.testing.assert_allclose(
        found.latents["failure"],
        jax.nn.sigmoid(img.failure_logits[truth] + 0.01),
        rtol=1e-5,
    )
    assert found.spread["failure"].shape == (3, 64)
    np.testing.assert_allclose(found.spread["failure"], 0, atol=1e-6)
    (none,) = lvm_jax.consensus(*differing, share=0.6)[4]
    assert none.member.shape == (0, 3)


def test_the_smallest_level_with_most_repeated_latents_is_recommended(levels):
    """What recurs at one level alone, 7 at 34 and 3 at 35, does not count."""
    task, results = levels
    (found,) = lvm_jax.recommend(task, results)
    repeated = {level: int(of.sum()) for level, of in found.is_repeated.items()}
    assert repeated == {33: 2, 34: 3, 35: 3} and found.level == 34
    assert found.is_repeated[34].shape == (4,)


@pytest.mark.parametrize(
    "compare", [lvm_jax.agreement, lvm_jax.consensus, lvm_jax.recommend]
)
def test_agreement_needs_something_to_compare_models_by(levels, compare):
    task, results = levels
    task = dataclasses.replace(task, recover=None)
    with pytest.raises(ValueError, match="a task with `recover`, got CON8 without"):
        compare(task, results)
