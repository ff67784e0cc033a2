"""The NVIL learner against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lvm_jax import noisy_or
from lvm_jax.noisy_or import model, recognition, variational
from lvm_jax.noisy_or.nvil import _apply_critic, nvil


def test_mean_elbo_lies_below_the_log_likelihood():
    samples = np.random.default_rng(1).random((400, 10)) < 0.3
    learner, packed = nvil(10), noisy_or.pack(samples)
    live = jnp.ones(4)
    state = learner.init(jax.random.key(0), live, packed)
    evaluate = jax.jit(learner.evaluate)
    elbo = np.mean(
        [
            evaluate(key, state, live, packed).objective
            for key in jax.random.split(jax.random.key(1), 20)
        ]
    )
    assert elbo < noisy_or.log_likelihood(state.params.model, samples).mean()


class _Adam:
    """Adam by its published formulas, in float64. Source: Kingma and Ba, 2015."""

    def __init__(self, rate):
        self.rate, self.count, self.moments = rate, 0, (0.0, 0.0)

    def step(self, gradient):
        first, second = self.moments
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        self.count, self.moments = self.count + 1, (first, second)
        unbiased = first / (1 - 0.9**self.count), second / (1 - 0.999**self.count)
        return -self.rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)


class _Nvil:
    """NVIL with every derivative written out, in float64."""

    def __init__(self, state, rates):
        self.theta, self.q, self.critic = (
            [np.asarray(leaf, np.float64) for leaf in tree or ()]
            for tree in (state.params.model, state.params.q, state.critic)
        )
        self.critic_rate = rates.critic_rate
        self.theta_adams = [_Adam(rates.theta_rate) for _ in range(3)]
        self.q_adams = [_Adam(rates.q_rate) for _ in range(2)]
        self.running = None

    def q_logits(self, x):
        weight, bias, mean = self.q
        return (x - mean) @ weight.T + bias

    def step(self, x, h):
        """The mean ELBO of a batch, from whose draws h it learns."""
        elbo, theta_slopes, q_slopes = self._terms(x, h)
        own = np.array([elbo.mean(), elbo.var(ddof=1)])
        is_first = self.running is None
        self.running = own if is_first else 0.8 * self.running + 0.2 * own
        mean, variance = self.running
        signal = (elbo - mean) / max(1.0, np.sqrt(variance))
        if self.critic:
            signal = self._descend_and_subtract(x - self.q[2], signal)
        size = len(x)
        for params, adams, gradients in (
            (self.theta, self.theta_adams, [slope / size for slope in theta_slopes]),
            (self.q, self.q_adams, [slope(signal) / size for slope in q_slopes]),
        ):
            for place, (adam, gradient) in enumerate(
                zip(adams, gradients, strict=True)
            ):
                params[place] = params[place] + adam.step(-gradient)
        return elbo.mean()

    def _terms(self, x, h):
        """The ELBO, and slopes of log P(x, h) and of log q(h | x)."""
        prior, failure, noise = map(special.expit, self.theta)
        q = special.expit(self.q_logits(x))
        off = noise * np.prod(np.where(h[..., None] > 0, failure, 1.0), axis=1)
        log_joint = np.log(np.where(x > 0, 1 - off, off)).sum(1)
        log_joint += np.log(np.where(h > 0, prior, 1 - prior)).sum(1)
        elbo = log_joint - np.log(np.where(h > 0, q, 1 - q)).sum(1)
        of_off = np.where(x > 0, -off / (1 - off), 1.0)
        theta_slopes = (
            (h - prior).sum(0),
            h.T @ of_off * (1 - failure),
            of_off.sum(0) * (1 - noise),
        )
        q_slopes = (
            lambda signal: ((h - q) * signal[:, None]).T @ (x - self.q[2]),
            lambda signal: ((h - q) * signal[:, None]).sum(0),
        )
        return elbo, theta_slopes, q_slopes

    def _descend_and_subtract(self, x_centred, signal):
        """The critic's error, whose square it descends by its plain gradient."""
        hidden, hidden_bias, out, out_bias = self.critic
        units = np.tanh(x_centred @ hidden.T + hidden_bias)
        error = signal - units @ out - out_bias
        slope = -2 * error / len(error)
        below = slope[:, None] * out * (1 - units**2)
        gradients = below.T @ x_centred, below.sum(0), slope @ units, slope.sum()
        self.critic = [
            leaf - self.critic_rate * gradient
            for leaf, gradient in zip(self.critic, gradients, strict=True)
        ]
        return error


@pytest.mark.parametrize("use_critic", [True, False])
def test_steps_are_those_of_derivatives_by_hand(use_critic):
    """Three of them, on data of uneven means, with a critic that counts."""
    random = np.random.default_rng(2)
    samples = random.random((3, 20, 8)) < np.linspace(0.1, 0.9, 8)
    rates = noisy_or.NvilHyperparams(0.02, 0.03, 0.2)
    learner = nvil(8, rates, use_critic=use_critic)
    packed, live = noisy_or.pack(samples.reshape(60, 8)).reshape(3, 20, 1), jnp.ones(3)
    state = jax.jit(learner.init)(jax.random.key(0), live, packed.reshape(60, 1))
    np.testing.assert_allclose(state.params.q.mean, samples.mean((0, 1)), rtol=1e-6)
    expected, step = _Nvil(state, rates), jax.jit(learner.step)
    for number, (x, batch) in enumerate(zip(samples, packed, strict=True)):
        key = jax.random.key(number)
        h = recognition.sample(key, jnp.float32(expected.q_logits(x)))
        state, info = step(key, state, live, batch)
        elbo = expected.step(x, np.float64(h))
        np.testing.assert_allclose(info.objective, elbo, rtol=1e-5)
    assert info.metrics["elbo"] == info.objective
    np.testing.assert_allclose(state.baseline[:2], expected.running, rtol=1e-5)
    for found, leaves in (
        (state.params.model, expected.theta),
        (state.params.q, expected.q),
        (state.critic or (), expected.critic),
    ):
        for a, b in zip(found, leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_signal_is_scaled_by_its_deviation_if_that_is_above_one():
    elbo = jnp.array([3.0, -1.0])
    for variance, scale in ((0.25, 1.0), (16.0, 4.0)):
        baseline = variational.Baseline(jnp.float32(2), variance, True)
        signal = variational.centred_signal(baseline, elbo)
        np.testing.assert_allclose(signal, np.array([1.0, -3.0]) / scale)


def test_critic_learns_to_predict_the_signal():
    """With a huge rate the critic's error on one repeated batch falls."""
    samples = np.random.default_rng(4).random((40, 8)) < 0.5
    learner = nvil(8, noisy_or.NvilHyperparams(0.0, 0.0, critic_rate=0.1))
    live, packed = jnp.ones(2), noisy_or.pack(samples)
    state = jax.jit(learner.init)(jax.random.key(0), live, packed)
    x_centred = samples - samples.mean(0)

    @jax.jit
    def error(critic, state):
        q_logits = recognition.logits(state.params.q, samples)
        h = recognition.sample(jax.random.key(1), q_logits)
        elbo = model.log_joint(state.params.model, samples, h) - recognition.log_prob(
            q_logits, h
        )
        signal = (elbo - elbo.mean()) / jnp.maximum(1.0, elbo.std(ddof=1))
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
