"""A recognition network: independent logistic regressions q(h | x).

Source: Buhai et al. 2020, section 3; Mnih and Gregor, "Neural Variational Inference
and Learning in Belief Networks", ICML 2014.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax.numerics import log_sigmoid, row_sums, uniforms

_DRAWS_PER_CHUNK = 20


class Recognition(NamedTuple):
    """Parameters of q(h_k = 1 | x) = sigmoid(weight_k . (x - mean) + bias_k).

    Attributes:
      weight: [K, D].
      bias: [K].
      mean: [D]. Of the training samples; it is not learned.
    """

    weight: chex.Array
    bias: chex.Array
    mean: chex.Array


def init(key: chex.PRNGKey, num_latents: int, mean: chex.Array) -> Recognition:
    """Draws every weight and bias from Uniform(-0.1, 0.1), as the study does.

    Args:
      key: random key.
      num_latents: K. The first k latents of a wider draw equal a draw of k.
      mean: [D]. Of the training samples.

    Returns:
      Recognition.
    """
    shapes = (num_latents, mean.size), (num_latents,)
    return Recognition(*uniforms(key, shapes, -0.1, 0.1), mean)


def centre(params: Recognition, x: chex.Array) -> chex.Array:
    """Samples [..., D] less the training mean, which no gradient reaches."""
    return x - jax.lax.stop_gradient(params.mean)


def logits(params: Recognition, x: chex.Array) -> chex.Array:
    """Logits of q(h_k = 1 | x).

    Args:
      params: Recognition with K latents and D observed variables.
      x: [..., D] zeros and ones.

    Returns:
      [..., K] logits; where one is -inf, the latent is never on.
    """
    centred = centre(params, x)
    return jnp.einsum("...d,kd->...k", centred, params.weight) + params.bias


def mask(params: Recognition, live: chex.Array) -> Recognition:
    """The network in which the latents that are not live are never on.

    Args:
      params: Recognition with K latents.
      live: [K]. Zero for padding latents.

    Returns:
      Recognition of the same shapes.
    """
    return params._replace(bias=jnp.where(live > 0, params.bias, -jnp.inf))


def sample(key: chex.PRNGKey, q_logits: chex.Array) -> chex.Array:
    """Draws h from q; the draws of a latent do not depend on how many others follow.

    Args:
      key: random key.
      q_logits: [B, K] logits.

    Returns:
      [B, K] float zeros and ones.
    """
    uniform = jax.random.uniform(key, q_logits.shape[::-1]).T
    return (uniform < jax.nn.sigmoid(q_logits)).astype(jnp.float32)


def log_prob(q_logits: chex.Array, h: chex.Array) -> chex.Array:
    """log q(h | x) in nats.

    Args:
      q_logits: [..., K] logits.
      h: [..., K] zeros and ones.

    Returns:
      [...] log-probabilities.
    """
    return row_sums(log_sigmoid(jnp.where(h > 0, q_logits, -q_logits)))


def importance_weighted_bound(
    key: chex.PRNGKey,
    q_logits: chex.Array,
    log_joint: Callable[[chex.Array], chex.Array],
    num_draws: int = 1000,
) -> chex.Array:
    """A lower bound on log P(x) in nats, from draws of h weighted by P(x, h) / q(h|x).

    Its expectation lies between the ELBO and log P(x), and rises with the number of
    draws. Source: Burda, Grosse and Salakhutdinov, "Importance Weighted
    Autoencoders", ICLR 2016, equation 8.

    Args:
      key: random key.
      q_logits: [N, K] logits of q(h | x).
      log_joint: log P(x, h) of the same N samples: [S, N] from h [S, N, K].
      num_draws: how many h to draw for each x.

    Returns:
      [N] bounds.

    Raises:
      ValueError: if num_draws is not positive.
    """
    if num_draws < 1:
        raise ValueError(f"expected at least 1 draw, got {num_draws}")
    num_samples, num_latents = q_logits.shape
    chunk = min(num_draws, _DRAWS_PER_CHUNK)
    num_chunks = -(-num_draws // chunk)

    def add_chunk(index, total):
        shape = (chunk, num_samples, num_latents)
        uniform = jax.random.uniform(jax.random.fold_in(key, index), shape)
        h = (uniform < jax.nn.sigmoid(q_logits)).astype(jnp.float32)
        log_weights = log_joint(h) - log_prob(q_logits, h)
        is_wanted = index * chunk + jnp.arange(chunk) < num_draws
        log_weights = jnp.where(is_wanted[:, None], log_weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_weights, axis=0))

    start = jnp.full(num_samples, -jnp.inf)
    total = jax.lax.fori_loop(0, num_chunks, add_chunk, start)
    return total - jnp.log(num_draws)
