"""Estimators of the gradient of a recognition network, as they are compared."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from lvm_jax import noisy_or
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
