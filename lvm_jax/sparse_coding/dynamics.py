"""How far the columns of a dictionary are from the true ones while it learns."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp

from lvm_jax import dynamics, recovery
from lvm_jax.sparse_coding.model import SparseCoding, usage


def trace(
    truth: SparseCoding,
    model: SparseCoding,
    live: chex.Array,
    held_out: chex.Array,
    *,
    limits: Sequence[float] = dynamics.LIMITS,
) -> dict[str, chex.Array]:
    """What is seen of the columns of a dictionary at one moment, for `Task.trace`.

    The relative distance is the angle of two columns as a share of a right one, at
    which nearly all columns start. Empty is a column that no code of the held-out
    samples uses. Truths are assigned by that angle.

    Args:
      truth: SparseCoding with T columns.
      model: SparseCoding with K columns.
      live: [K]. Zero for dead columns.
      held_out: [N', D].
      limits: relative distances within which a column has come to a true one.

    Returns:
      As `dynamics.trace`.

    Raises:
      ValueError: if there is no truth.
    """
    if truth is None:
        raise ValueError("expected a truth to trace columns by, got none")
    cosine = jnp.einsum("td,kd->tk", truth.dictionary, model.dictionary)
    relative = jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / (jnp.pi / 2)
    is_live = live > 0
    return dynamics.trace(
        relative,
        (usage(model, held_out) <= 0) | ~is_live,
        jnp.where(is_live, relative, recovery.FORBIDDEN),
        limits,
    )
