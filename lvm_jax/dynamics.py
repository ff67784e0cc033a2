"""The course of learning: what every latent is to the truths, record by record.

Latents of a model that learns come near truths, leave them, and contend for them. What
is near is relative: a family says how far a latent is from a truth, as a share of how
far one is that has learned nothing, and which latents are empty. Nothing here knows
which family it is. Source: Buhai et al. 2020, section 5, which shows single runs in
pictures; the states are this project's.
"""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np

from lvm_jax import recovery

EMPTY, UNDECIDED, ALONE, CONTENDING = range(4)
STATES = ("empty", "undecided", "alone", "contending")
LIMITS = (0.75, 0.5)  # relative distances within which a latent has come to a truth


def states(
    nearest: chex.Array, distance: chex.Array, empty: chex.Array, limit: float
) -> chex.Array:
    """What each latent is: empty, undecided, alone with a truth, or contending for it.

    Args:
      nearest: [K] int. The truth that each latent is nearest to.
      distance: [K]. Its relative distance.
      empty: [K] bool. Latents that the model makes no use of, the dead among them.
      limit: the largest distance of a latent that has come to a truth.

    Returns:
      [K] int8. EMPTY; else UNDECIDED, if no truth is within the limit; else ALONE or
      CONTENDING, as no or another latent has come to the same truth.
    """
    attached = ~empty & (distance <= limit)
    shared = (nearest[:, None] == nearest) & attached
    came = jnp.where(shared.sum(-1) > 1, CONTENDING, ALONE)
    state = jnp.where(attached, came, UNDECIDED)
    return jnp.where(empty, EMPTY, state).astype(jnp.int8)


def trace(
    relative: chex.Array,
    empty: chex.Array,
    cost: chex.Array,
    limits: Sequence[float] = LIMITS,
) -> dict[str, chex.Array]:
    """What is seen of the latents of a model at one moment.

    Args:
      relative: [T, K]. Distance of each truth and latent, 1 for a latent that says
        nothing.
      empty: [K] bool. Latents that the model makes no use of, the dead among them.
      cost: [T, K]. What the study assigns truths by.
      limits: relative distances within which a latent has come to a truth.

    Returns:
      `state` [limits, K] int8; `nearest` [K] int8 (int16 if there are more truths than
      127); `distance` [K], the relative one to the nearest; and `assigned` [T] int16,
      the latent of each truth in the assignment of least total cost, without a
      threshold: of a truth whose costs are all 1000 or more, -1.
    """
    nearest, distance = relative.argmin(0), relative.min(0)
    small = jnp.int8 if len(relative) <= np.iinfo(np.int8).max else jnp.int16
    # Any cost is a match but those at which `assign` cuts, as of forbidden pairs.
    most = np.nextafter(np.float32(recovery.FORBIDDEN), np.float32(0))
    assigned = recovery.assign(cost, jnp.bool_(True), most)
    return {
        "state": jnp.stack(
            [states(nearest, distance, empty, limit) for limit in limits]
        ),
        "nearest": nearest.astype(small),
        "distance": distance,
        "assigned": assigned.astype(jnp.int16),
    }


def agreement_with(assigned: chex.Array, last: chex.Array) -> chex.Array:
    """How many truths have the latent that they have at the end.

    Args:
      assigned: [..., E, T]. Of every record.
      last: [..., T]. Of the end.

    Returns:
      [..., E] int.
    """
    last = last[..., None, :]
    return ((assigned == last) & (last >= 0)).sum(-1)


def settled(assigned: np.ndarray) -> np.ndarray:
    """Since which record each truth has had the latent that it has at the end.

    Args:
      assigned: [..., E, T]. Of every record, in order.

    Returns:
      [..., T] int, from 0 to E - 1. Of E - 1 it is not known whether it would last.
    """
    assigned = np.asarray(assigned)
    same = assigned == assigned[..., -1:, :]
    # Counted from the end: records in a row that are as the last one.
    run = np.cumprod(same[..., ::-1, :], axis=-2).sum(-2)
    return assigned.shape[-2] - run
