"""The study's sparse coding data, made in code and sampled from a key.

Source: Buhai et al. 2020, on sparse coding. `read_truth` reads the published matrices;
`from_truth` samples from them.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from lvm_jax import numerics
from lvm_jax.sparse_coding import model as sparse_coding
from lvm_jax.sparse_coding.model import SparseCoding
from lvm_jax.types import Dataset

_sample = jax.jit(sparse_coding.sample, static_argnums=(2, 3))

NUM_PAIRS = 12
NUM_OBSERVED = 100
SPARSITY = 5


def paired_columns(
    key: chex.PRNGKey,
    gamma: float,
    num_pairs: int = NUM_PAIRS,
    num_observed: int = NUM_OBSERVED,
) -> SparseCoding:
    """Pairs of unit vectors at an angle: the first of each has a random direction.

    Args:
      key: random key.
      gamma: angle between the two columns of a pair, in degrees.
      num_pairs: P.
      num_observed: D.

    Returns:
      SparseCoding with 2 P columns; those of a pair follow each other.

    Raises:
      ValueError: if the angle is not between 0 and 180 degrees.
    """
    if not 0 < gamma < 180:
        raise ValueError(
            f"expected an angle gamma above 0 and below 180 degrees, got {gamma:g}"
        )
    shape = (2, num_pairs, num_observed)
    first, other = jax.random.normal(key, shape, jnp.float32).astype(float)
    first = sparse_coding.normalise(first)
    across = jnp.einsum("kd,kd->k", first, other)[:, None] * first
    across = sparse_coding.normalise(other - across)
    angle = jnp.deg2rad(gamma)
    second = jnp.cos(angle) * first + jnp.sin(angle) * across
    pairs = jnp.stack([first, second], axis=1)
    return SparseCoding(pairs.reshape(2 * num_pairs, num_observed))


def from_truth(
    name: str,
    key: chex.PRNGKey,
    truth: SparseCoding,
    sparsity: int = SPARSITY,
    num_samples: int = 10_000,
    *,
    precision: str = "float32",
    recipe: Mapping[str, Any] | None = None,
) -> Dataset:
    """Draws a data set from a dictionary.

    Args:
      name: as shown in tables.
      key: random key of the samples.
      truth: SparseCoding with T columns of D numbers.
      sparsity: nonzeros of each sample's code.
      num_samples: N.
      precision: "float32" or "float64", of the samples.
      recipe: what the dictionary was made from, None if only its numbers say so.

    Returns:
      Dataset with samples [N, D].

    Raises:
      ValueError: if the sparsity is not from 1 to T, or N is not positive.
    """
    if num_samples < 1:
        raise ValueError(f"expected at least 1 sample, got {num_samples}")
    with numerics.settings(precision):
        samples, _ = _sample(key, truth, sparsity, num_samples)
    if recipe is not None:
        recipe = {
            **recipe,
            "key": jax.random.key_data(key).tolist(),
            "sparsity": sparsity,
            "num_samples": num_samples,
            "precision": precision,
        }
    return Dataset(name, samples, truth, recipe)


def make(
    key: chex.PRNGKey,
    gamma: float,
    sparsity: int = SPARSITY,
    num_samples: int = 10_000,
    *,
    precision: str = "float32",
) -> Dataset:
    """Draws a data set of the study: 24 columns in pairs, 100 variables, no noise.

    Args:
      key: random key of the truth and the samples.
      gamma: angle between the two columns of a pair in degrees; 5 or 10 in the
        study.
      sparsity: nonzeros of each sample's code.
      num_samples: N.
      precision: "float32" or "float64", of the columns and the samples.

    Returns:
      Dataset with samples [N, 100] and a SparseCoding of 24 columns as truth.

    Raises:
      ValueError: if an argument is out of range.
    """
    with numerics.settings(precision):
        truth_key, sample_key = jax.random.split(key)
        truth = paired_columns(truth_key, gamma)
    return from_truth(
        f"gamma{gamma:g}",
        sample_key,
        truth,
        sparsity,
        num_samples,
        precision=precision,
        recipe={"gamma": gamma},
    )
