"""Estimates of the ELBO's gradient against its gradient by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or import local_expectation, model, recognition, rloo, variational
from lvm_jax.noisy_or.local_expectation import loss as local_expectation_loss
from lvm_jax.noisy_or.rloo import loss as rloo_loss

_K, _D = 3, 6


@pytest.fixture(scope="module")
def networks():
    """Both networks, away from where they start, and four samples."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = variational.init(keys[0], keys[1], _K, jnp.full(_D, 0.4))
    params = jax.tree.map(lambda leaf: leaf - 2.0 * (leaf > 1), params)
    return params, jax.random.bernoulli(keys[2], 0.4, (4, _D)).astype(jnp.float32)


@pytest.fixture(scope="module")
def exact(networks):
    params, x = networks
    states = jnp.array(list(itertools.product([0.0, 1.0], repeat=_K)))

    def negative_elbo(params):
        def terms(h):
            h = jnp.broadcast_to(h, (len(x), _K))
            log_q = recognition.log_prob(recognition.logits(params.q, x), h)
            return model.log_joint(params.model, x, h), log_q

        log_joint, log_q = jax.vmap(terms)(states)
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    return jax.jit(jax.grad(negative_elbo))(params)


def _score_function(params, key, x):
    log_joint, log_q = variational.draw(key, params, x)
    signal = log_joint - log_q + 3.0
    return variational.score_function_loss(log_joint, log_q, signal), signal


_LOSSES = {
    "score function": _score_function,
    "rloo of 2": lambda params, key, x: rloo_loss(params, key, x, 2),
    "rloo of 5": lambda params, key, x: rloo_loss(params, key, x, 5),
    "local expectation": lambda params, key, x: local_expectation_loss(
        params, key, jnp.ones(_K), x
    ),
}


def _estimates(networks, name, num_draws):
    params, x = networks
    gradient = jax.grad(_LOSSES[name], has_aux=True)
    keys = jax.random.split(jax.random.key(1), num_draws)
    return jax.jit(jax.vmap(lambda key: gradient(params, key, x)[0]))(keys)


@pytest.mark.parametrize("name", _LOSSES)
def test_an_estimate_is_unbiased(networks, exact, name):
    estimates = _estimates(networks, name, 40_000)
    for own, expected in zip(
        jax.tree.leaves(estimates), jax.tree.leaves(exact), strict=True
    ):
        error = np.asarray(own.mean(0) - expected)
        deviation = np.asarray(own.std(0)) / np.sqrt(len(own))
        assert (np.abs(error) < 5 * deviation + 1e-6).all()


def test_estimates_vary_less_the_more_they_know(networks):
    variances = [
        np.var(_estimates(networks, name, 4000).q.weight, axis=0).sum()
        for name in ("score function", "rloo of 2", "rloo of 5", "local expectation")
    ]
    assert (np.diff(variances) < 0).all()


def test_of_one_latent_the_local_expectation_is_exact(networks):
    params, x = networks
    live = jnp.array([1.0, 0.0, 0.0])
    params = variational.mask(params, live)
    both = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    def negative_elbo(params):
        q_logits = recognition.logits(params.q, x)
        log_joint = jnp.stack([model.log_joint(params.model, x, h) for h in both])
        log_q = jnp.stack(
            [recognition.log_prob(q_logits, h * jnp.ones_like(q_logits)) for h in both]
        )
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    expected = jax.jit(jax.grad(negative_elbo))(params).q.weight[0]
    estimate = jax.jit(jax.grad(local_expectation_loss, has_aux=True))
    for seed in range(3):
        gradient, _ = estimate(params, jax.random.key(seed), live, x)
        np.testing.assert_allclose(gradient.q.weight[0], expected, rtol=1e-4)
        assert not np.asarray(gradient.q.weight[1:]).any()


def test_one_draw_has_no_other_to_compare_with():
    with pytest.raises(ValueError, match="expected at least 2 draws, got 1"):
        rloo(64, num_draws=1)


@pytest.mark.parametrize("learner", [rloo, local_expectation, noisy_or.nvil])
def test_learners_share_a_start(learner):
    """Of the same key: what differs between them is what they learn by."""
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0), 200), learner)
    own, nvil = (
        jax.jit(of.init)(jax.random.key(3), jnp.ones(8), task.train)
        for of in (task.learner(None), noisy_or.nvil(64))
    )
    for a, b in zip(
        jax.tree.leaves(own.params), jax.tree.leaves(nvil.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_noise_of_the_signal_changes_variance_and_not_the_mean(networks):
    _, x = networks
    packed = noisy_or.pack(np.asarray(x, bool))
    plain, noisy = (
        noisy_or.nvil(_D, use_critic=False, signal_noise=noise) for noise in (0.0, 3.0)
    )
    state = plain.init(jax.random.key(0), jnp.ones(_K), packed)

    def moments(learner, key):
        new, _ = learner.step(key, state, jnp.ones(_K), packed)
        return new.optimizers.q[0].mu.weight

    keys = jax.random.split(jax.random.key(2), 20_000)
    plain, noisy = (
        np.asarray(jax.jit(jax.vmap(lambda key, of=of: moments(of, key)))(keys))
        for of in (plain, noisy)
    )
    assert (noisy.var(0) > 2 * plain.var(0)).all()
    error = np.abs(noisy.mean(0) - plain.mean(0))
    deviation = np.sqrt((noisy.var(0) + plain.var(0)) / len(keys))
    assert (error < 5 * deviation).all()
