"""Data on which agreement between runs may mislead: each breaks one assumption.

All are made of UNIF-DRAWN's kind of network, eight latents over 64 variables.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from lvm_jax import noisy_or, numerics
from lvm_jax.noisy_or import NoisyOr
from lvm_jax.types import Dataset

_Made = tuple[chex.Array, NoisyOr | None]


def _latents(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> chex.Array:
    return jax.random.bernoulli(key, truth.prior, (num_samples, truth.prior.size))


def _independent(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    """Every variable as often on as in a network, independently of all others."""
    latent_key, observed_key, key = jax.random.split(key, 3)
    h = _latents(latent_key, truth, num_samples)
    x = noisy_or.sample_given_latents(observed_key, truth, h)
    return jax.random.permutation(key, x, axis=0, independent=True), None


def _twins(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    """The second latent is on exactly when the first is."""
    latent_key, observed_key = jax.random.split(key)
    h = _latents(latent_key, truth, num_samples)
    h = h.at[:, 1].set(h[:, 0])
    return noisy_or.sample_given_latents(observed_key, truth, h), truth


def _correlated(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    """Four latents are nearly twice as frequent in one half of the samples."""
    half_key, latent_key, observed_key = jax.random.split(key, 3)
    is_frequent = jax.random.bernoulli(half_key, 0.5, (num_samples, 1))
    scale = jnp.where(is_frequent, 1.9, 0.1)
    prior = jnp.where(
        jnp.arange(truth.prior.size) < 4, scale * truth.prior, truth.prior
    )
    h = jax.random.uniform(latent_key, prior.shape) < prior
    return noisy_or.sample_given_latents(observed_key, truth, h), truth


def _one_child(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    """Two latents have a single child each, which others may have too."""
    is_other = jnp.arange(truth.noise.size) != jnp.array([[0], [1]])
    failure = truth.failure.at[:2].set(jnp.where(is_other, 1.0, 0.1))
    return _drawn(key, _with_failure(truth, failure), num_samples)


def _duplicates(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    """The second latent has the children of the first."""
    failure = truth.failure.at[1].set(truth.failure[0])
    return _drawn(key, _with_failure(truth, failure), num_samples)


def _with_failure(truth: NoisyOr, failure: chex.Array) -> NoisyOr:
    return noisy_or.from_probabilities(truth.prior, failure, truth.noise)


def _drawn(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> _Made:
    return noisy_or.sample(key, truth, num_samples)[0], truth


_MAKERS: dict[str, Callable[[chex.PRNGKey, NoisyOr, int], _Made]] = {
    "INDEPENDENT": _independent,
    "TWINS": _twins,
    "CORRELATED": _correlated,
    "ONE-CHILD": _one_child,
    "DUPLICATES": _duplicates,
}
NAMES = tuple(_MAKERS)


@numerics.settings()
def make(name: str, key: chex.PRNGKey, num_samples: int) -> Dataset:
    """Draws one of these data sets.

    Args:
      name: one of NAMES.
      key: random key of truth and samples.
      num_samples: N.

    Returns:
      Dataset with samples [N, 64]; no truth where nothing is to be found.
    """
    truth_key, sample_key = jax.random.split(key)
    truth = noisy_or.random_unif(truth_key)
    samples, known = _MAKERS[name](sample_key, truth, num_samples)
    recipe = {
        "made": name,
        "key": jax.random.key_data(key).tolist(),
        "num_samples": num_samples,
    }
    return Dataset(name, samples, known, recipe)
