"""Noisy-OR networks learned with several draws that are each other's baseline: RLOO.

Each step draws h_1, ..., h_S ~ q(h | x) for every sample and follows the gradient of
their mean log P(x, h) for the network. That of q is the score function's,

    1/S sum_s (r_s - mean_{t != s} r_t) grad log q(h_s | x),
    r_s = log P(x, h_s) - log q(h_s | x),

which is unbiased and needs neither a running mean nor a critic. Source: Kool, van Hoof
and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", ICLR 2019 workshop on
deep reinforcement learning, equation 8.
"""

import chex
import jax
import jax.numpy as jnp

from lvm_jax.noisy_or import variational
from lvm_jax.noisy_or.variational import Params, VariationalHyperparams
from lvm_jax.types import Learner


def loss(
    params: Params, key: chex.PRNGKey, x: chex.Array, num_draws: int
) -> tuple[chex.Array, chex.Array]:
    """A scalar whose gradient is the estimate, for a descent; and ELBOs in nats.

    Args:
      params: Params with K latents and D observed variables.
      key: random key.
      x: [B, D] zeros and ones.
      num_draws: S.

    Returns:
      [], and the mean one-sample ELBO of every x, [B].
    """
    draw = jax.vmap(variational.draw, (0, None, None))
    log_joint, log_q = draw(jax.random.split(key, num_draws), params, x)
    elbo = jax.lax.stop_gradient(log_joint - log_q)
    # A product with ones, for reductions round differently beside other runs.
    mean = jnp.ones(num_draws) @ elbo / num_draws
    # What a draw has less the mean of the others.
    signal = (elbo - mean) * (num_draws / (num_draws - 1))
    return variational.score_function_loss(log_joint, log_q, signal), mean


def rloo(
    num_observed: int,
    hyperparams: VariationalHyperparams | None = None,
    *,
    num_draws: int = 4,
) -> Learner:
    """RLOO for noisy-OR networks as a Learner.

    Batches, data and the metric are those of `nvil`.

    Args:
      num_observed: D.
      hyperparams: rates; the study's for NVIL and IMG if None.
      num_draws: S, of each sample in a step.

    Returns:
      Learner with variational.State as its state and Params as its parameters.

    Raises:
      ValueError: if there are fewer than two draws.
    """
    if num_draws < 2:
        raise ValueError(f"expected at least 2 draws, got {num_draws}")

    def of_batch(params, key, live, x):
        return loss(variational.mask(params, live), key, x, num_draws)

    return variational.learner(num_observed, hyperparams, of_batch)
