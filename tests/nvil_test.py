"""The NVIL learner against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvm_jax import noisy_or
from lvm_jax.noisy_or import model, recognition, variational
from lvm_jax.noisy_or.nvil import _apply_critic, nvil


def test_score_function_gradient_is_unbiased():
    """Its mean over many draws is the gradient of the ELBO by enumeration of h."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = variational.init(keys[0], keys[1], 3, jnp.full(6, 0.4))
    params = jax.tree.map(lambda leaf: leaf - 2.0 * (leaf > 1), params)
    x = jax.random.bernoulli(keys[2], 0.4, (4, 6)).astype(jnp.float32)
    states = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))

    def terms(params, h):
        q_logits = recognition.logits(params.q, x)
        log_joint = model.log_joint(params.model, x, h)
        return log_joint, recognition.log_prob(q_logits, h)

    def negative_elbo(params):
        log_joint, log_q = jax.vmap(lambda h: terms(params, h[None]))(states)
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    def estimate(key):
        q_logits = recognition.logits(params.q, x)
        h = recognition.sample(key, q_logits)

        def loss(params):
            log_joint, log_q = terms(params, h)
            return variational.score_function_loss(
                log_joint, log_q, log_joint - log_q + 3.0
            )

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
    learner, packed = nvil(10), noisy_or.pack(samples)
    live = jnp.ones(4)
    state = learner.init(jax.random.key(0), live, packed)
    elbo = np.mean(
        [
            learner.evaluate(key, state, live, packed).objective
            for key in jax.random.split(jax.random.key(1), 20)
        ]
    )
    assert elbo < noisy_or.log_likelihood(state.params.model, samples).mean()


def test_first_step_moves_every_parameter_by_adams_rate():
    """Adam's first step has the size of its rate, wherever a gradient is not zero."""
    samples = np.random.default_rng(2).random((50, 8)) < 0.5
    rates = noisy_or.NvilHyperparams(theta_rate=0.02, q_rate=0.03)
    learner, packed = nvil(8, rates), noisy_or.pack(samples)
    live = jnp.ones(3)
    before = learner.init(jax.random.key(0), live, packed)
    after, _ = learner.step(jax.random.key(1), before, live, packed)
    for rate, old, new in (
        (0.02, before.params.model, after.params.model),
        (0.03, before.params.q[:2], after.params.q[:2]),
    ):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_allclose(np.abs(a - b), rate, rtol=1e-2)
    for state in (before, after):
        np.testing.assert_allclose(state.params.q.mean, samples.mean(0), rtol=1e-6)


def test_running_statistics_start_at_the_first_batch_and_decay():
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, 20)).astype(np.float32)
    baseline = variational.start_baseline()
    baseline = variational.update_baseline(baseline, first)
    np.testing.assert_allclose(baseline.mean, first.mean(), rtol=1e-5)
    np.testing.assert_allclose(baseline.variance, first.var(ddof=1), rtol=1e-5)
    baseline = variational.update_baseline(baseline, second)
    np.testing.assert_allclose(
        baseline.mean, 0.8 * first.mean() + 0.2 * second.mean(), rtol=1e-5
    )


def test_critic_learns_to_predict_the_signal():
    """With a huge rate the critic's error on one repeated batch falls."""
    samples = np.random.default_rng(4).random((40, 8)) < 0.5
    learner = nvil(8, noisy_or.NvilHyperparams(0.0, 0.0, critic_rate=0.1))
    live, packed = jnp.ones(2), noisy_or.pack(samples)
    state = learner.init(jax.random.key(0), live, packed)
    x_centred = samples - samples.mean(0)

    def error(critic, state):
        q_logits = recognition.logits(state.params.q, samples)
        h = recognition.sample(jax.random.key(1), q_logits)
        elbo = model.log_joint(state.params.model, samples, h) - recognition.log_prob(
            q_logits, h
        )
        signal = (elbo - elbo.mean()) / max(1.0, elbo.std(ddof=1))
        return ((signal - _apply_critic(critic, x_centred)) ** 2).mean()

    step = jax.jit(learner.step)
    trained = state
    for _ in range(300):
        trained, _ = step(jax.random.key(1), trained, live, packed)
    assert error(trained.critic, state) < 0.5 * error(state.critic, state)


def test_batch_of_one_is_refused():
    learner, packed = nvil(3), noisy_or.pack(np.ones((1, 3), bool))
    state = learner.init(jax.random.key(0), jnp.ones(2), packed)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        learner.step(jax.random.key(0), state, jnp.ones(2), packed)


@pytest.mark.parametrize(
    "batch",
    [np.ones((5, 40), bool), np.ones((5, 40), np.uint32), np.ones((5, 2), np.int32)],
)
def test_samples_that_are_not_packed_are_refused(batch):
    learner = nvil(40)
    with pytest.raises(ValueError, match="40 bits packed into 2 words of uint32, got"):
        learner.init(jax.random.key(0), jnp.ones(2), batch)


def test_counts_are_not_packed():
    counts = np.array([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="got 2 in row 2, column 2"):
        noisy_or.pack(counts)
    with pytest.raises(ValueError, match="got 2 in row 2, column 2"):
        noisy_or.log_likelihood(model.init(jax.random.key(0), 2, 2), counts)
