"""Noisy-OR networks learned with the exact expectation over each latent in turn.

Each step draws one h ~ q(h | x) per sample and follows the gradient of log P(x, h) for
the network. For the logit a_k of q(h_k = 1 | x) it takes the other latents from the
draw and both values of h_k:

    q_k (1 - q_k) (log P(x, h_k = 1, h_-k) - log P(x, h_k = 0, h_-k) - a_k)

which is unbiased, of low variance, and costs K further evaluations of log P. Source:
Titsias and Lazaro-Gredilla, "Local Expectation Gradients for Black Box Variational
Inference", NIPS 2015, section 3.
"""

import chex
import jax
import jax.numpy as jnp

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or import recognition, variational
from lvm_jax.noisy_or.variational import Params, VariationalHyperparams
from lvm_jax.types import Learner


def _gain(
    params: Params, x: chex.Array, h: chex.Array, log_likelihood: chex.Array
) -> chex.Array:
    """[B, K]. log P(x, h) with each latent on less with it off, the others as in h.

    Args:
      params: masked Params with K latents and D observed variables.
      x: [B, D] zeros and ones.
      h: [B, K] likewise.
      log_likelihood: [B]. log P(x | h) in nats.
    """
    flipped = jnp.abs(h[:, None] - jnp.eye(h.shape[-1]))
    of_flipped = noisy_or.log_likelihood_given_latents(
        params.model, x[:, None], flipped
    )
    gain = (2.0 * h - 1.0) * (log_likelihood[:, None] - of_flipped)
    return gain + params.model.prior_logits


def loss(
    params: Params, key: chex.PRNGKey, live: chex.Array, x: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """A scalar whose gradient is the estimate, for a descent; and ELBOs in nats.

    Args:
      params: masked Params with K latents and D observed variables.
      key: random key.
      live: [K]. Zero for dead latents.
      x: [B, D] zeros and ones.

    Returns:
      [], and the one-sample ELBO of every x, [B].
    """
    q_logits = recognition.logits(params.q, x)
    h = jax.lax.stop_gradient(recognition.sample(key, q_logits))
    log_likelihood = noisy_or.log_likelihood_given_latents(params.model, x, h)
    log_joint = noisy_or.log_prior(params.model, h) + log_likelihood
    gain = _gain(params, x, h, log_likelihood)
    signal = jnp.where(live > 0, gain - q_logits, 0.0)
    expected = (jax.lax.stop_gradient(signal) * jax.nn.sigmoid(q_logits)).sum(-1)
    elbo = log_joint - recognition.log_prob(q_logits, h)
    return -(log_joint + expected).mean(), jax.lax.stop_gradient(elbo)


def local_expectation(
    num_observed: int, hyperparams: VariationalHyperparams | None = None
) -> Learner:
    """Local expectation gradients for noisy-OR networks as a Learner.

    Batches, data and the metric are those of `nvil`.

    Args:
      num_observed: D.
      hyperparams: rates; the study's for NVIL and IMG if None.

    Returns:
      Learner with variational.State as its state and Params as its parameters.
    """

    def of_batch(params, key, live, x):
        return loss(variational.mask(params, live), key, live, x)

    return variational.learner(num_observed, hyperparams, of_batch)
