"""The recognition network against the study's numbers and enumeration."""

import functools

import jax
import numpy as np
import pytest
from scipy import special

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or import recognition

_sample, _log_prob = jax.jit(recognition.sample), jax.jit(recognition.log_prob)
_log_likelihood = jax.jit(noisy_or.log_likelihood)


@functools.partial(jax.jit, static_argnames="num_draws")
def _bound(key, q_logits, model, x, num_draws):
    log_joint = functools.partial(noisy_or.log_joint, model, x)
    return recognition.importance_weighted_bound(key, q_logits, log_joint, num_draws)


@pytest.fixture(scope="module")
def published(golden):
    """The study's logits of q(h | x), h and log q(h | x)."""
    data = np.load(golden / "noisy_or_log_joint.npz")
    mean = np.zeros(data["x_centered"].shape[-1], np.float32)
    q = recognition.Recognition(data["q_weight"].T, data["q_bias"], mean)
    q_logits = jax.jit(recognition.logits)(q, data["x_centered"])
    return q_logits, data["h"], data["log_q"]


def test_log_prob_matches_the_study(published):
    q_logits, h, expected = published
    actual = np.asarray(_log_prob(q_logits, h))
    # The study rounds q to float32 before it takes log(1 - q).
    q = np.asarray(jax.jit(jax.nn.sigmoid)(q_logits))
    is_rounded = np.where(h > 0, 1.0, 1 - q).min(-1) < 1e-3
    assert is_rounded.mean() < 0.2
    np.testing.assert_allclose(actual[~is_rounded], expected[~is_rounded], rtol=1e-5)
    rounded = np.log(np.where(h > 0, q, 1 - q)).sum(-1)
    np.testing.assert_allclose(rounded, expected, rtol=1e-5)


def test_log_prob_matches_float64(published):
    q_logits, h, _ = published
    wide = np.float64(q_logits)
    expected = special.log_expit(np.where(h > 0, wide, -wide)).sum(-1)
    np.testing.assert_allclose(_log_prob(q_logits, h), expected, rtol=1e-6)


def test_draws_of_a_latent_do_not_depend_on_the_width():
    q_logits = jax.random.normal(jax.random.key(0), (20, 16))
    wide = np.asarray(_sample(jax.random.key(1), q_logits))
    narrow = _sample(jax.random.key(1), np.asarray(q_logits)[:, :5])
    np.testing.assert_array_equal(wide[:, :5], narrow)


def test_sample_frequencies_match_probabilities():
    q_logits = np.broadcast_to(np.float32([-3.0, 0.0, 2.0, -np.inf]), (20_000, 4))
    frequency = np.mean(_sample(jax.random.key(2), q_logits), 0)
    np.testing.assert_allclose(
        frequency, special.expit(q_logits[0]), atol=4 * 0.5 / np.sqrt(20_000)
    )


@pytest.fixture(scope="module")
def problem():
    model = noisy_or.init(jax.random.key(0), 5, 12)
    model = model._replace(failure_logits=model.failure_logits - 3)
    x, _ = noisy_or.sample(jax.random.key(1), model, 200)

    @jax.jit
    def logits(x):
        q = recognition.init(jax.random.key(2), 5, x.mean(0))
        return recognition.logits(q, x)

    return model, x, logits(x)


def test_importance_weighted_bound_lies_between_elbo_and_likelihood(problem):
    model, x, q_logits = problem
    exact = np.mean(_log_likelihood(model, x))
    one, ten, many = (
        np.mean(_bound(jax.random.key(3), q_logits, model, x, num_draws))
        for num_draws in (1, 10, 3000)
    )
    assert one < ten < many < exact + 0.02
    np.testing.assert_allclose(many, exact, atol=0.05)


def test_importance_weighted_bound_counts_its_draws(problem):
    """With q the prior and x unexplained by h, every weight is P(x): exact."""
    model, x, _ = problem
    model = model._replace(failure_logits=np.full((5, 12), np.float32(np.inf)))
    q_logits = np.broadcast_to(model.prior_logits, (200, 5))
    exact = _log_likelihood(model, x)
    for num_draws in (1, 7, 33):
        bound = _bound(jax.random.key(0), q_logits, model, x, num_draws)
        np.testing.assert_allclose(bound, exact, rtol=1e-5)


def test_importance_weighted_bound_refuses_no_draws(problem):
    with pytest.raises(ValueError, match="at least 1 draw, got 0"):
        recognition.importance_weighted_bound(jax.random.key(0), problem[2], None, 0)
