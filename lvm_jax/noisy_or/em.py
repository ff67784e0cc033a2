"""Noisy-OR networks learned by variational EM.

An E-step for all samples, then an M-step. Source: Singliar and Hauskrecht, "Noisy-OR
Component Analysis and its Application to Link Analysis", JMLR 7, 2006, section 3;
settings from the authors' release of Buhai et al. 2020.

Three things differ from the release. Every eighth update of weights is another one, as
the published one may go to and fro. No weight is cut to zero: of weights that do not
sum to one there is no bound. And the M-step is the joint optimum over theta and leak,
to rounding, where theirs stops at a thousandth.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp

from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or.expectation import Posterior, as_network, as_rates, infer
from lvm_jax.noisy_or.maximization import ascend, maximize
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.numerics import unpack_bits
from lvm_jax.types import Info, Learner


class EmHyperparams(NamedTuple):
    """When an E-step ends.

    Attributes:
      weight_tolerance: squared change of a sample's weights in an iteration, summed
        over latents and variables, below which its E-step ends.
    """

    weight_tolerance: float = 1e-6


class GradientEmHyperparams(NamedTuple):
    """Rate of the M-step, and when an E-step ends.

    Attributes:
      logit_rate: of the gradient step on the logits, in nats per sample; the study's.
      weight_tolerance: squared change of a sample's weights in an iteration, summed
        over latents and variables, below which its E-step ends.
    """

    logit_rate: float = 10.0
    weight_tolerance: float = 1e-6


class State(NamedTuple):
    """What a run of the algorithm carries from step to step: the network alone."""

    params: NoisyOr


def _learner(
    num_observed: int,
    tolerance: chex.Array,
    improve: Callable[[NoisyOr, chex.Array, Posterior], NoisyOr],
) -> Learner:
    """E-steps with an M-step: (network, x, posterior) -> network."""

    def expect(params, live, data):
        x = unpack_bits(data, num_observed)
        masked = noisy_or.mask(params, live)
        return x, infer(as_rates(masked), live, x, tolerance)

    def info(posterior):
        elbo = posterior.bound.mean()
        return Info(elbo, {"elbo": elbo})

    def init(key, live, train):
        del train  # The start does not depend on the data.
        return State(noisy_or.init(key, live.size, num_observed))

    def step(key, state, live, batch):
        del key  # Nothing is drawn.
        x, posterior = expect(state.params, live, batch)
        old, new = state.params, improve(state.params, x, posterior)
        is_live = live > 0
        new = NoisyOr(
            jnp.where(is_live, new.prior_logits, old.prior_logits),
            jnp.where(is_live[:, None], new.failure_logits, old.failure_logits),
            new.noise_logits,
        )
        return State(new), info(posterior)

    def evaluate(key, state, live, data):
        del key  # Nothing is drawn.
        return info(expect(state.params, live, data)[1])

    return Learner(init, step, evaluate, noisy_or.mask)


def em(num_observed: int, hyperparams: EmHyperparams | None = None) -> Learner:
    """Variational EM for noisy-OR networks as a Learner.

    Batches and data are binary samples packed by `noisy_or.pack`: [B, ceil(D / 32)]
    words. The algorithm takes all training samples in one step; of smaller batches a
    step forgets all but the last. Its metric is `elbo`, the mean lower bound on
    log P(x) in nats: of a step at the network that it starts from.

    Args:
      num_observed: D.
      hyperparams: when an E-step ends.

    Returns:
      Learner with State as its state and NoisyOr as its parameters.
    """
    hyperparams = hyperparams or EmHyperparams()

    def improve(old, x, posterior):
        return as_network(maximize(as_rates(old), x, posterior))

    return _learner(num_observed, hyperparams.weight_tolerance, improve)


def gradient_em(
    num_observed: int, hyperparams: GradientEmHyperparams | None = None
) -> Learner:
    """Variational EM whose M-step is one gradient step on failures and noise.

    As `em`, the study's "hybrid". A step that is too long may lower the bound.

    Args:
      num_observed: D.
      hyperparams: the step's rate, and when an E-step ends.

    Returns:
      Learner with State as its state and NoisyOr as its parameters.
    """
    hyperparams = hyperparams or GradientEmHyperparams()

    def improve(old, x, posterior):
        return ascend(old, x, posterior, hyperparams.logit_rate)

    return _learner(num_observed, hyperparams.weight_tolerance, improve)
