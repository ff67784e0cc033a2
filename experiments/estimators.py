"""Estimators of a recognition network's gradient, and how much each varies."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or import variational
from lvm_jax.types import Learner

_CRITIC_RATE = 1e-4
NUM_DRAWS = {"rloo2": 2, "rloo4": 4, "rloo8": 8}


class Rate(NamedTuple):
    """What an estimator is tuned by.

    Attributes:
      rate: Adam's learning rate for the network and the recognition network.
    """

    rate: float = 0.04


def _of_nvil(num_observed: int, hyperparams: Rate, **options: Any) -> Learner:
    rates = noisy_or.NvilHyperparams(hyperparams.rate, hyperparams.rate, _CRITIC_RATE)
    return noisy_or.nvil(num_observed, rates, **options)


def _without_critic(
    learner: Callable[..., Learner],
    num_observed: int,
    hyperparams: Rate,
    **options: Any,
) -> Learner:
    rates = noisy_or.VariationalHyperparams(hyperparams.rate, hyperparams.rate)
    return learner(num_observed, rates, **options)


ESTIMATORS = {
    "nvil": _of_nvil,
    "noisy1": functools.partial(_of_nvil, signal_noise=1.0),
    "noisy3": functools.partial(_of_nvil, signal_noise=3.0),
    **{
        name: functools.partial(_without_critic, noisy_or.rloo, num_draws=number)
        for name, number in NUM_DRAWS.items()
    },
    "local_expectation": functools.partial(_without_critic, noisy_or.local_expectation),
}


def of_estimator(state: Any, learner: Learner, live: chex.Array, train: Any) -> Any:
    """A state of NVIL as another estimator has it, with the same parameters.

    Args:
      state: of NVIL.
      learner: with the other estimator.
      live: mask of the latents.
      train: [N, ceil(D / 32)] packed samples.
    """
    own = jax.eval_shape(learner.init, lvm_jax.key(0), live, train)
    if not isinstance(own, variational.State):
        return state
    return variational.State(state.params, state.optimizers)


def relative_variance(
    learner: Learner,
    state: Any,
    live: chex.Array,
    train: chex.Array,
    batch_size: int,
    num_draws: int,
) -> float:
    """How much the gradient of a recognition network's weights varies.

    The sum of their variances over random batches and draws, by the squared length of
    the mean; infinite where that cannot be told from zero. Adam takes no notice of a
    gradient's scale, and estimators differ in it.

    Args:
      learner: with Adam for the recognition network.
      state: at which the gradient is taken.
      live: mask of the latents.
      train: [N, ceil(D / 32)] packed samples.
      batch_size: B.
      num_draws: of the gradient, each of a batch of its own; an even number.
    """
    gradients = _gradients(learner, state, live, train, batch_size, num_draws)
    # The squared length of one mean would be too large by its own variance.
    halves = gradients.reshape(2, -1, *gradients.shape[1:]).mean(1)
    squared = float((halves[0] * halves[1]).sum())
    variance = float(gradients.var(0, ddof=1).sum())
    return variance / squared if squared > 0 else math.inf


@functools.partial(jax.jit, static_argnames=("learner", "batch_size", "num_draws"))
def _gradients(
    learner: Learner,
    state: Any,
    live: chex.Array,
    train: chex.Array,
    batch_size: int,
    num_draws: int,
) -> chex.Array:
    """Gradients of the weights, [num_draws, K, D], as `relative_variance` has them."""

    def gradient(key):
        batch_key, key = jax.random.split(key)
        place = jax.random.randint(batch_key, (batch_size,), 0, len(train))
        new, _ = learner.step(key, state, live, jnp.asarray(train)[place])
        # Adam's first moment is 0.9 of the old and 0.1 of the gradient.
        old, new = (of.optimizers.q[0].mu.weight for of in (state, new))
        return (new - 0.9 * old) / 0.1

    return jax.lax.map(gradient, jax.random.split(lvm_jax.key(1), num_draws))
