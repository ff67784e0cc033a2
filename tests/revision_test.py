"""Latents that come and go while a network learns, step by step."""

import jax
import numpy as np
import pytest

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or import revision

_K = 12
_fresh = jax.jit(revision.fresh)


@pytest.fixture(scope="module")
def learned():
    """A learner of twelve latents after 100 steps, with all of them live."""
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0), num_samples=3000))
    learner = task.learner(noisy_or.NvilHyperparams(0.1, 0.1))
    live = np.ones(_K, np.float32)

    def step(index, state):
        batch = jax.lax.dynamic_slice_in_dim(task.train, 20 * index, 20)
        return learner.step(jax.random.key(index), state, live, batch)[0]

    @jax.jit
    def learn():
        state = learner.init(lvm_jax.key(1), live, task.train)
        return jax.lax.fori_loop(0, 100, step, state)

    return learn(), live


def _rows(state):
    """What belongs to each latent: [K, ...]."""
    moments = state.optimizers.theta[0], state.optimizers.q[0]
    return {
        f"{name} {part}": np.asarray(leaf)
        for name, theta, q in (
            ("params", state.params.model, state.params.q),
            ("first", moments[0].mu, moments[1].mu),
            ("second", moments[0].nu, moments[1].nu),
        )
        for part, leaf in zip("abcd", (*theta[:2], *q[:2]), strict=True)
    }


def test_a_fresh_latent_is_as_at_the_start_and_others_stay(learned):
    state, live = learned
    rows = np.arange(_K) >= 9
    live = live * (np.arange(_K) != 11)
    new = _fresh(jax.random.key(7), state, live, rows)
    before, after = _rows(state), _rows(new)
    for name in before:
        np.testing.assert_array_equal(after[name][:9], before[name][:9])
    for name, low, high in (("a", 2, 4), ("b", 2, 4), ("c", -0.1, 0.1)):
        values = after[f"params {name}"][9:]
        assert (values >= low).all() and (values <= high).all()
        assert len(np.unique(values)) > 0.9 * values.size
    for name in "abcd":
        assert not after[f"first {name}"][9:].any()
        mean = before[f"second {name}"][:9].mean(0)
        np.testing.assert_allclose(
            after[f"second {name}"][9:], np.stack([mean] * 3), rtol=1e-5
        )
    other = _fresh(jax.random.key(8), state, live, rows)
    assert (_rows(other)["params b"][9:] != after["params b"][9:]).all()
    noise = state.params.model.noise_logits
    np.testing.assert_array_equal(new.params.model.noise_logits, noise)


def test_where_all_are_fresh_second_moments_are_the_means_of_all(learned):
    state, live = learned
    new = _fresh(jax.random.key(7), state, live, live > 0)
    mean = _rows(state)["second b"].mean(0)
    np.testing.assert_allclose(_rows(new)["second b"][0], mean, rtol=1e-5)


def _survivors(state):
    recover = jax.jit(noisy_or.recover)
    return np.asarray(recover(state.params.model, state.params.model).kept)


def test_pruning_leaves_the_survivors_of_the_filter_and_only_then(learned):
    state, live = learned
    survivors = _survivors(state)
    assert 0 < survivors.sum() < _K
    revise = revision.pruned(3.0)
    for num_epochs, expected in ((0, live), (2, live), (3, survivors), (4, live)):
        new, mask = revise(jax.random.key(0), state, live, num_epochs)
        np.testing.assert_array_equal(mask, expected)
        assert new is state


def test_growing_starts_with_some_and_adds_fresh_ones(learned):
    state, live = learned
    revise = revision.grown(2.0, 5, 10)
    start, mask = revise(jax.random.key(0), state, live, 0)
    np.testing.assert_array_equal(mask, np.arange(_K) < 5)
    for a, b in zip(_rows(start).values(), _rows(state).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    _, still = revise(jax.random.key(0), start, mask, 1)
    np.testing.assert_array_equal(still, mask)
    grown, more = revise(jax.random.key(0), start, mask, 2)
    np.testing.assert_array_equal(more, np.arange(_K) < 10)
    failure = _rows(grown)["params b"]
    np.testing.assert_array_equal(failure[:5], _rows(state)["params b"][:5])
    assert ((failure[5:10] >= 2) & (failure[5:10] <= 4)).all()


def test_growing_at_once_is_having_all(learned):
    state, live = learned
    _, mask = revision.grown(0.0, 5, _K)(jax.random.key(0), state, live, 0)
    np.testing.assert_array_equal(mask, live)


def test_renewal_starts_what_the_filter_drops_anew_when_it_is_due(learned):
    state, live = learned
    revise = revision.renewed(3.0, 6)
    dropped = ~_survivors(state)
    for num_epochs, is_due in ((0, 0), (2, 0), (3, 1), (6, 1), (9, 0)):
        new, mask = revise(jax.random.key(0), state, live, num_epochs)
        np.testing.assert_array_equal(mask, live)
        changed = (_rows(new)["params b"] != _rows(state)["params b"]).any(1)
        np.testing.assert_array_equal(changed, dropped & bool(is_due))
