"""The NVIL learner against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvm_jax.learners import nvil
from lvm_jax.models import noisy_or, recognition


@pytest.mark.parametrize("num_observed", [1, 31, 32, 33, 70])
def test_unpack_undoes_pack(num_observed):
    samples = np.random.default_rng(0).random((5, num_observed)) < 0.5
    np.testing.assert_array_equal(
        nvil.unpack(nvil.pack(samples), num_observed), samples
    )


def test_score_function_gradient_is_unbiased():
    """Its mean over many draws is the gradient of the ELBO by enumeration of h."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = nvil.Params(noisy_or.init(keys[0], 3, 6), recognition.init(keys[1], 3, 6))
    params = jax.tree.map(lambda leaf: leaf - 2.0 * (leaf > 1), params)
    x = jax.random.bernoulli(keys[2], 0.4, (4, 6)).astype(jnp.float32)
    states = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))

    def terms(params, h):
        q_logits = recognition.logits(params.q, x - 0.4)
        log_joint = noisy_or.log_joint(params.model, x, h)
        return log_joint, recognition.log_prob(q_logits, h)

    def negative_elbo(params):
        log_joint, log_q = jax.vmap(lambda h: terms(params, h[None]))(states)
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    def estimate(key):
        q_logits = recognition.logits(params.q, x - 0.4)
        h = recognition.sample(key, q_logits)

        def loss(params):
            log_joint, log_q = terms(params, h)
            return nvil.score_function_loss(log_joint, log_q, log_joint - log_q + 3.0)

        return jax.grad(loss)(params)

    num_draws = 40_000
    draws = jax.jit(jax.vmap(estimate))(jax.random.split(keys[3], num_draws))
    exact = jax.grad(negative_elbo)(params)
    for estimates, expected in zip(
        jax.tree.leaves(draws), jax.tree.leaves(exact), strict=True
    ):
        error = np.asarray(estimates.mean(0) - expected)
        deviation = np.asarray(estimates.std(0)) / np.sqrt(num_draws)
        assert (np.abs(error) < 5 * deviation + 1e-6).all()


def test_mean_elbo_lies_below_the_log_likelihood():
    samples = np.random.default_rng(1).random((400, 10)) < 0.3
    mean = samples.mean(0)
    learner = nvil.nvil(mean)
    live = jnp.ones(4)
    state = learner.init(jax.random.key(0), live)
    elbo = np.mean(
        [
            learner.evaluate(key, state, live, nvil.pack(samples)).objective
            for key in jax.random.split(jax.random.key(1), 20)
        ]
    )
    assert elbo < noisy_or.log_likelihood(state.params.model, samples).mean()


def test_first_step_moves_every_parameter_by_adams_rate():
    """Adam's first step has the size of its rate, wherever a gradient is not zero."""
    samples = np.random.default_rng(2).random((50, 8)) < 0.5
    config = nvil.NvilConfig(theta_rate=0.02, q_rate=0.03)
    learner = nvil.nvil(samples.mean(0), config)
    live = jnp.ones(3)
    before = learner.init(jax.random.key(0), live)
    after, _ = learner.step(jax.random.key(1), before, live, nvil.pack(samples))
    for rate, old, new in (
        (0.02, before.params.model, after.params.model),
        (0.03, before.params.q, after.params.q),
    ):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_allclose(np.abs(a - b), rate, rtol=1e-2)


def test_running_statistics_start_at_the_first_batch_and_decay():
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, 20)).astype(np.float32)
    baseline = nvil.Baseline(jnp.zeros(()), jnp.zeros(()), jnp.bool_(False))
    baseline = nvil._update_baseline(baseline, first)
    np.testing.assert_allclose(baseline.mean, first.mean(), rtol=1e-5)
    np.testing.assert_allclose(baseline.variance, first.var(ddof=1), rtol=1e-5)
    baseline = nvil._update_baseline(baseline, second)
    np.testing.assert_allclose(
        baseline.mean, 0.8 * first.mean() + 0.2 * second.mean(), rtol=1e-5
    )


def test_critic_learns_to_predict_the_signal():
    """With a huge rate the critic's error on one repeated batch falls."""
    samples = np.random.default_rng(4).random((40, 8)) < 0.5
    learner = nvil.nvil(samples.mean(0), nvil.NvilConfig(0.0, 0.0, critic_rate=0.1))
    live = jnp.ones(2)
    state = learner.init(jax.random.key(0), live)
    x_centred = samples - samples.mean(0)

    def error(critic, state):
        q_logits = recognition.logits(state.params.q, x_centred)
        h = recognition.sample(jax.random.key(1), q_logits)
        elbo = noisy_or.log_joint(
            state.params.model, samples, h
        ) - recognition.log_prob(q_logits, h)
        signal = (elbo - elbo.mean()) / max(1.0, elbo.std(ddof=1))
        return ((signal - nvil._apply_critic(critic, x_centred)) ** 2).mean()

    step = jax.jit(learner.step)
    trained = state
    for _ in range(300):
        trained, _ = step(jax.random.key(1), trained, live, nvil.pack(samples))
    assert error(trained.critic, state) < 0.5 * error(state.critic, state)


def test_batch_of_one_is_refused():
    learner = nvil.nvil(np.full(3, 0.5))
    state = learner.init(jax.random.key(0), jnp.ones(2))
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        learner.step(
            jax.random.key(0), state, jnp.ones(2), nvil.pack(np.ones((1, 3), bool))
        )
