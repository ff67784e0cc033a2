"""Samples like a user's, from columns that are known: for a parametric bootstrap."""

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax.numerics import settings
from lvm_jax.sparse_coding import model as sparse_coding
from lvm_jax.sparse_coding.model import SparseCoding
from lvm_jax.types import Task


def redraw(key: chex.PRNGKey, task: Task, latents: Mapping[str, chex.Array]) -> Task:
    """A task like another one, of samples that given columns make.

    The codes are those of training samples, drawn with replacement: the encoder's
    active columns with their least-squares coefficients, which it does not shrink. What
    they leave is normal noise of the same standard deviation for each variable.

    Args:
      key: random key.
      task: of `task`.
      latents: `column` [C, D] of `latents`, one at least.

    Returns:
      Task with as many samples in each part; its truth is the dictionary.
    """
    train = np.asarray(task.train)
    with settings(train.dtype.name):
        columns = jnp.asarray(latents["column"], train.dtype)
        truth = SparseCoding(sparse_coding.normalise(columns))
        codes, deviation = jax.jit(_codes)(truth, train)

        def draw(key, like):
            code_key, noise_key = jax.random.split(key)
            chosen = jax.random.randint(code_key, (len(like),), 0, len(train))
            noise = jax.random.normal(noise_key, like.shape, train.dtype)
            x = sparse_coding.decode(truth, codes[chosen]) + deviation * noise
            return np.asarray(x)

        keys = jax.random.split(key)
        drawn = {
            name: draw(of_part, getattr(task, name))
            for name, of_part in zip(("train", "held_out"), keys, strict=True)
        }
    return dataclasses.replace(
        task,
        name=f"{task.name} redrawn",
        truth=jax.tree.map(np.asarray, truth),
        recipe=None,
        **drawn,
    )


def _codes(truth: SparseCoding, x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """[N, C] codes of samples [N, D], and [D], the deviation of what they leave."""
    is_active = sparse_coding.encode(truth, x) > 0
    codes = jnp.where(is_active, sparse_coding.least_squares(truth, x), 0)
    return codes, (x - sparse_coding.decode(truth, codes)).std(0)
