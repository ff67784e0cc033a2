"""Samples like a user's, from a network that is known: for a parametric bootstrap."""

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or.mean_field import mean_field
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.numerics import pack_bits, settings
from lvm_jax.types import Task

_NUM_STEPS = 1000
_NUM_DRAWS = 10
_BATCH = 20
_NOISE = 0.99  # that a refit begins with
_LEAST = 1e-3  # probability that a refit begins with, and one less of the largest


@settings()
def refit(
    key: chex.PRNGKey, latents: Mapping[str, chex.Array], samples: chex.Array
) -> NoisyOr:
    """The network of given latents that explains samples.

    Latents of several models do not make one: each prior and failure was learned beside
    others, and nothing is said of the noise. So they are where learning goes on from,
    the study's mean field, 1000 steps of 20 samples; the network is the mean, in
    logits, over the second half of the steps.

    Args:
      key: random key.
      latents: `prior` [C] and `failure` [C, D], probabilities.
      samples: [N, ceil(D / 32)] packed.

    Returns:
      NoisyOr of C latents.
    """
    prior, failure = (
        jnp.clip(jnp.asarray(latents[name], jnp.float32), _LEAST, 1 - _LEAST)
        for name in ("prior", "failure")
    )
    noise = jnp.full(failure.shape[1], _NOISE)
    network = noisy_or.from_probabilities(prior, failure, noise)
    return _fit(key, network, jnp.asarray(samples))


_sample = jax.jit(noisy_or.sample, static_argnums=2)


@jax.jit
def _fit(key: chex.PRNGKey, network: NoisyOr, samples: chex.Array) -> NoisyOr:
    num_latents, num_observed = network.failure_logits.shape
    learner = mean_field(num_observed, num_draws=_NUM_DRAWS)
    live = jnp.ones(num_latents)

    def step(carry, keys):
        state, total = carry
        chosen = jax.random.randint(keys[0], (_BATCH,), 0, len(samples))
        state, _ = learner.step(keys[1], state, live, samples[chosen])
        return (state, jax.tree.map(jnp.add, total, state.params)), None

    def half(state, keys):
        nothing = jax.tree.map(jnp.zeros_like, network)
        (state, total), _ = jax.lax.scan(step, (state, nothing), keys)
        return state, jax.tree.map(lambda leaf: leaf / len(keys), total)

    state = learner.init(key, live, samples)._replace(params=network)
    halves = jax.random.split(key, (2, _NUM_STEPS // 2, 2))
    _, means = jax.lax.scan(half, state, halves)
    return jax.tree.map(lambda leaf: leaf[-1], means)


@settings()
def redraw(key: chex.PRNGKey, task: Task, latents: Mapping[str, chex.Array]) -> Task:
    """A task like another one, of samples from a network of given latents.

    Args:
      key: random key.
      task: of `task`, whose training samples the network is refitted to.
      latents: of `latents`, one at least.

    Returns:
      Task with as many samples in each part; its truth is the network.
    """
    fit_key, *keys = jax.random.split(key, 4)
    truth = refit(fit_key, latents, task.train)

    def draw(key, like):
        x, _ = _sample(key, truth, len(like))
        return np.asarray(pack_bits(x))

    parts = ("train", "held_out", "validation")
    drawn = {
        name: draw(key, getattr(task, name))
        for name, key in zip(parts, keys, strict=True)
    }
    return dataclasses.replace(
        task,
        name=f"{task.name} redrawn",
        truth=jax.tree.map(np.asarray, truth),
        recipe=None,
        **drawn,
    )
