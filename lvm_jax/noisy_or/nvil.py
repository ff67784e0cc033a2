"""Noisy-OR networks learned with a recognition network: NVIL.

Each step draws one h ~ q(h | x) per sample, follows the gradient of log P(x, h) for
the network, and a score-function gradient for q: grad log q(h | x) times the signal

    r(x, h) = (log P(x, h) - log q(h | x) - m) / max(1, s) - C(x)

with running mean m, running standard deviation s, and a critic C fitted to the
signal's first term. Source: Mnih and Gregor, "Neural Variational Inference and
Learning in Belief Networks", ICML 2014, section 2; settings from Buhai et al. 2020,
appendix B.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax.noisy_or import recognition, variational
from lvm_jax.noisy_or.variational import Baseline, Optimizers, Params
from lvm_jax.numerics import uniforms, unpack_bits
from lvm_jax.types import Learner

HIDDEN = 100  # units of the critic, as in the study


class NvilHyperparams(NamedTuple):
    """Rates of the algorithm; the defaults are the study's for IMG.

    Attributes:
      theta_rate: Adam's learning rate for the network.
      q_rate: Adam's learning rate for the recognition network.
      critic_rate: learning rate of the critic's plain gradient descent.
    """

    theta_rate: float = 0.04
    q_rate: float = 0.04
    critic_rate: float = 1e-4


class Critic(NamedTuple):
    """Parameters of C(x) = out . tanh(hidden (x - mean) + bias) + out_bias.

    Attributes:
      hidden: [H, D].
      hidden_bias: [H].
      out: [H].
      out_bias: [].
    """

    hidden: chex.Array
    hidden_bias: chex.Array
    out: chex.Array
    out_bias: chex.Array


class State(NamedTuple):
    """What a run of the algorithm carries from step to step."""

    params: Params
    optimizers: Optimizers
    critic: Critic | None
    baseline: Baseline


def _init_critic(key: chex.PRNGKey, num_observed: int) -> Critic:
    """Draws each layer from Uniform(-1, 1) / sqrt(fan in), PyTorch's default."""
    bound = np.array([num_observed, num_observed, HIDDEN, HIDDEN]) ** -0.5
    shapes = (HIDDEN, num_observed), (HIDDEN,), (HIDDEN,), ()
    return Critic(*uniforms(key, shapes, -bound, bound))


def _apply_critic(critic: Critic, x_centred: chex.Array) -> chex.Array:
    """[B] predictions of the signal from [B, D]."""
    # Hidden units first: both matrix products over the batch then run without
    # a transposition on a CPU.
    hidden = jnp.einsum("hd,bd->hb", critic.hidden, x_centred)
    return critic.out @ jnp.tanh(hidden + critic.hidden_bias[:, None]) + critic.out_bias


def _loss(params, critic, key, baseline, live, x, signal_noise):
    """The score-function loss plus the critic's; also what the step carries on."""
    draw_key, noise_key = jax.random.split(key) if signal_noise else (key, None)
    log_joint, log_q = variational.draw(draw_key, variational.mask(params, live), x)
    elbo = jax.lax.stop_gradient(log_joint - log_q)
    baseline = variational.update_baseline(baseline, elbo)
    error = variational.centred_signal(baseline, elbo)
    critic_loss = 0.0
    if critic is not None:
        error -= _apply_critic(critic, recognition.centre(params.q, x))
        critic_loss = (error**2).mean()
    if signal_noise:
        error += signal_noise * jax.random.normal(noise_key, error.shape)
    loss = variational.score_function_loss(log_joint, log_q, error)
    return loss + critic_loss, (baseline, elbo)


def nvil(
    num_observed: int,
    hyperparams: NvilHyperparams | None = None,
    *,
    use_critic: bool = True,
    signal_noise: float = 0.0,
) -> Learner:
    """NVIL for noisy-OR networks as a Learner.

    Batches and data are binary samples packed by `noisy_or.pack`: [B, ceil(D / 32)]
    words. Its metric is `elbo`, the mean one-sample evidence lower bound in nats.

    Args:
      num_observed: D.
      hyperparams: rates; the study's for IMG if None.
      use_critic: whether a critic is subtracted from the learning signal, as in the
        study.
      signal_noise: standard deviation of noise that is added to the learning signal,
        whose own is about one. It raises the variance of q's gradient, not its mean.

    Returns:
      Learner with State as its state and Params as its parameters.
    """
    hyperparams = hyperparams or NvilHyperparams()
    adams = variational.optimizers(hyperparams)

    def init(key, live, train):
        params, critic_key = variational.start(key, live.size, train, num_observed)
        return State(
            params,
            adams.init(params),
            _init_critic(critic_key, num_observed) if use_critic else None,
            variational.start_baseline(),
        )

    def step(key, state, live, batch):
        if batch.shape[0] < 2:
            raise ValueError("expected a batch of at least 2 samples, got 1")
        x = unpack_bits(batch, num_observed)
        (grads, critic_grads), (baseline, elbo) = jax.grad(
            _loss, argnums=(0, 1), has_aux=True
        )(state.params, state.critic, key, state.baseline, live, x, signal_noise)
        params, optimizers = adams.descend(state.params, grads, state.optimizers)
        critic = jax.tree.map(
            lambda p, g: p - hyperparams.critic_rate * g, state.critic, critic_grads
        )
        state = State(params, optimizers, critic, baseline)
        return state, variational.elbo_info(elbo)

    def evaluate(key, state, live, data):
        return variational.evaluate(key, state.params, live, data)

    return Learner(init, step, evaluate, variational.model)
