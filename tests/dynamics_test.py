"""The states of latents: against the study's own run, and by counting."""

import collections
import functools

import jax
import numpy as np
import pytest

from lvm_jax import dynamics, noisy_or, recovery, sparse_coding
from lvm_jax.sparse_coding.model import mask

_EMPTY, _UNDECIDED, _ALONE, _CONTENDING = range(4)


@pytest.fixture(scope="module")
def published(golden):
    with np.load(golden / "release2" / "progress_img_k16.npz") as file:
        return dict(file)


def _seen(published, prefix=""):
    """What is traced of the run's stored snapshots, stacked."""
    truth = noisy_or.from_probabilities(
        *(published[f"truth_{name}"] for name in ("prior", "failure", "noise"))
    )

    @jax.jit
    def of_snapshot(prior, failure):
        noise = published["truth_noise"]  # Nothing that is traced depends on it.
        model = noisy_or.from_probabilities(prior, failure, noise)
        return noisy_or.trace(truth, model, np.ones(16), None)

    models = zip(
        published[f"{prefix}prior"], published[f"{prefix}failure"], strict=True
    )
    every = [jax.device_get(of_snapshot(*model)) for model in models]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *every)


@pytest.mark.parametrize("prefix", ["", "late_"])
def test_states_are_those_of_the_study_s_run(published, prefix):
    seen = _seen(published, prefix)
    state = published[f"{prefix}proposed_state"]
    np.testing.assert_array_equal(seen["state"][:, 0], state)
    np.testing.assert_allclose(
        seen["distance"], published[f"{prefix}proposed_relative_l1"], rtol=1e-4
    )
    nearest = published[f"{prefix}proposed_nearest"]
    np.testing.assert_array_equal(seen["nearest"], nearest)
    assert len(np.unique(state)) == 4


def test_truths_are_assigned_as_in_the_study_s_run(published):
    assigned = _seen(published)["assigned"]
    cost = np.take_along_axis(published["cost_l1"], assigned[..., None].astype(int), 2)
    assert (cost[..., 0] < recovery.FORBIDDEN).all()
    expected = published["all_assignment"][published["index"]]
    np.testing.assert_array_equal(assigned, expected)
    last = published["all_assignment"][-1]
    np.testing.assert_array_equal(
        dynamics.agreement_with(published["all_assignment"], last),
        published["all_matches_with_last"],
    )


def _states_by_counting(relative, empty, limit):
    nearest = relative.argmin(0)
    attached = ~empty & (relative.min(0) <= limit)
    count = collections.Counter(nearest[attached].tolist())
    came = [_CONTENDING if count[truth] > 1 else _ALONE for truth in nearest.tolist()]
    return np.where(empty, _EMPTY, np.where(attached, came, _UNDECIDED))


def test_states_are_those_of_counting():
    random = np.random.default_rng(0)
    trace = jax.jit(functools.partial(dynamics.trace, limits=(0.75, 0.25)))
    for _ in range(50):
        relative = random.uniform(0.1, 1.2, (5, 9)).astype(np.float32)
        empty = random.random(9) < 0.3
        seen = trace(relative, empty, relative)
        for limit, state in zip((0.75, 0.25), seen["state"], strict=True):
            expected = _states_by_counting(relative, empty, limit)
            np.testing.assert_array_equal(state, expected)


def test_a_latent_at_the_limit_has_come_to_a_truth():
    limit = np.float32(0.75)
    distance = np.array([limit, np.nextafter(limit, np.float32(1))])
    state = dynamics.states(np.array([0, 0]), distance, np.zeros(2, bool), 0.75)
    np.testing.assert_array_equal(state, [_ALONE, _UNDECIDED])


def test_a_truth_that_no_latent_may_have_is_assigned_none():
    cost = np.full((2, 3), recovery.FORBIDDEN)
    cost[0, 1] = 999.0
    seen = jax.jit(dynamics.trace)(np.ones((2, 3)), np.zeros(3, bool), cost)
    np.testing.assert_array_equal(seen["assigned"], [1, -1])
    assigned = np.asarray(seen["assigned"])
    assert dynamics.agreement_with(assigned[None], assigned).item() == 1


def _truth_twin_and_dead(leaf):
    return np.concatenate([leaf, leaf[:1], leaf[:1]])


def test_a_noisy_or_truth_is_alone_and_its_twin_contends():
    truth = noisy_or.img()
    model = noisy_or.NoisyOr(*map(_truth_twin_and_dead, truth[:2]), truth.noise_logits)
    live = np.array([1.0] * 9 + [0.0])
    seen = jax.jit(noisy_or.trace)(truth, model, live, None)
    expected = [_CONTENDING, *[_ALONE] * 7, _CONTENDING, _EMPTY]
    np.testing.assert_array_equal(seen["state"], [expected, expected])
    np.testing.assert_array_equal(seen["nearest"][:9], [*range(8), 0])
    np.testing.assert_allclose(seen["distance"][:9], 0, atol=1e-6)
    assert set(seen["assigned"].tolist()) <= set(range(9))


def test_a_true_column_is_alone_and_its_twin_contends():
    dataset = sparse_coding.make(jax.random.key(0), 10.0, num_samples=200)
    truth = jax.tree.map(np.asarray, dataset.truth)
    columns = _truth_twin_and_dead(truth.dictionary)
    # The rest of a random column, so that the encoder tells the two apart.
    columns[24] = truth.dictionary[0] + 0.5 * np.linalg.qr(truth.dictionary.T)[0][:, -1]
    live = np.array([1.0] * 25 + [0.0])
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    model = mask(truth._replace(dictionary=columns), live)
    seen = jax.jit(sparse_coding.trace)(truth, model, live, dataset.samples)
    state = np.asarray(seen["state"][1])
    expected = [_CONTENDING, *[_ALONE] * 23, _CONTENDING, _EMPTY]
    np.testing.assert_array_equal(state, expected)
    angle = np.degrees(np.arctan(0.5)) / 90
    np.testing.assert_allclose(seen["distance"][24], angle, atol=1e-3)
    np.testing.assert_allclose(seen["distance"][1:24], 0, atol=1e-3)


def test_settled_is_since_when_nothing_changes():
    assigned = np.array([[0, 1], [2, 1], [0, 1], [0, 3], [0, 1]])
    np.testing.assert_array_equal(dynamics.settled(assigned), [2, 4])
    random = np.random.default_rng(1)
    assigned = random.integers(0, 3, (20, 7, 4))
    expected = [
        [
            next(at for at in range(7) if (run[at:, truth] == run[-1, truth]).all())
            for truth in range(4)
        ]
        for run in assigned
    ]
    np.testing.assert_array_equal(dynamics.settled(assigned), expected)
