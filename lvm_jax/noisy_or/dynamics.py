"""How far the latents of a noisy-OR network are from the truths while it learns."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp

from lvm_jax import dynamics, recovery
from lvm_jax.noisy_or.model import LEAST_PRIOR, NoisyOr, is_used
from lvm_jax.numerics import log_sigmoid


def distances(truth: NoisyOr, model: NoisyOr) -> tuple[chex.Array, chex.Array]:
    """L1 distances of all truths and latents in log failure.

    Args:
      truth: NoisyOr with T latents.
      model: NoisyOr with K latents.

    Returns:
      [T, K] in nats; and the same as shares of the distance of a latent that never
      turns anything on, sum_d |log f_kd - log f*_td| / sum_d |log f*_td|; infinite of
      a truth that turns nothing on itself.
    """
    true, learned = (log_sigmoid(of.failure_logits) for of in (truth, model))
    distance = jnp.abs(true[:, None] - learned).sum(-1)
    length = jnp.abs(true).sum(-1)[:, None]
    return distance, jnp.where(length > 0, distance / length, jnp.inf)


def trace(
    truth: NoisyOr,
    model: NoisyOr,
    live: chex.Array,
    held_out: chex.Array,
    *,
    limits: Sequence[float] = dynamics.LIMITS,
) -> dict[str, chex.Array]:
    """What is seen of the latents of a network at one moment, for `Task.trace`.

    Empty is a latent that the study's filter finds unused. Truths are assigned by L1 in
    log failure, as the study does over time, never to a latent with a prior below 0.02.

    Args:
      truth: NoisyOr with T latents.
      model: NoisyOr with K latents.
      live: [K]. Zero for dead latents.
      held_out: unused.
      limits: relative distances within which a latent has come to a truth.

    Returns:
      As `dynamics.trace`.

    Raises:
      ValueError: if there is no truth.
    """
    if truth is None:
        raise ValueError("expected a truth to trace latents by, got none")
    del held_out  # Unused.
    cost, relative = distances(truth, model)
    forbidden = (model.prior < LEAST_PRIOR) | (live <= 0)
    return dynamics.trace(
        relative,
        ~is_used(model) | (live <= 0),
        jnp.where(forbidden, recovery.FORBIDDEN, cost),
        limits,
    )
