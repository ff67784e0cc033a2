"""Sparse coding learned by alternating minimization.

Each step encodes the batch with the pseudo-inverse of the dictionary and a shifted
ReLU, then follows the gradient of half the mean squared error for the dictionary,
codes held fixed, and scales the columns to unit length:

    h = relu(pinv(A) x - threshold),    A <- normalise(A - rate (A h - x) h^T)

Nearly as many columns as variables fit every sample, whatever they are. Two ways out of
that are ours: the pseudo-inverse is bounded (`guard`), or the encoder sees some of the
variables, others in each step, and the columns have to predict the rest (`masked`).

Source: Li, Liang and Risteski, "Recovery Guarantee of Non-negative Matrix
Factorization via Alternating Updates", NIPS 2016; settings from Buhai et al. 2020.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax.sparse_coding import model as sparse_coding
from lvm_jax.sparse_coding.model import SparseCoding
from lvm_jax.types import Info, Learner


class AlternatingMinimizationHyperparams(NamedTuple):
    """Numbers of the algorithm; the defaults are the study's.

    Attributes:
      step_size: rate of the dictionary's gradient descent.
      threshold: of the encoder's shifted ReLU.
      guard: what bounds the pseudo-inverse, see `SparseCoding`.
    """

    step_size: float = 0.1
    threshold: float = sparse_coding.THRESHOLD
    guard: float = 0.0


class MaskedHyperparams(NamedTuple):
    """Numbers of `masked`, the first three those of the algorithm.

    Attributes:
      step_size: see `AlternatingMinimizationHyperparams`.
      threshold: likewise.
      guard: likewise. Some is needed in float32, in which more columns than variables
        that are seen, without it, have codes that rounding changes by hundredths.
      hidden: share of the variables that the encoder does not see in a step, to the
        nearest number of them; one at least is seen.
    """

    step_size: float = 0.1
    threshold: float = sparse_coding.THRESHOLD
    guard: float = 0.001
    hidden: float = 0.5


class State(NamedTuple):
    """What a run of the algorithm carries from step to step."""

    params: SparseCoding


def _info(squared_errors) -> Info:
    error = squared_errors.mean()
    return Info(-error, {"error": error})


def alternating_minimization(
    num_observed: int,
    hyperparams: AlternatingMinimizationHyperparams | None = None,
) -> Learner:
    """Alternating minimization for sparse coding as a Learner.

    Batches and data are samples [B, D]. Its metric is `error`, the squared distance
    of a sample and its decoded code, averaged over samples. A column that is not
    live is zero from the start, and every step leaves it there. Nothing in it is
    random but the start.

    Args:
      num_observed: D.
      hyperparams: the study's if None.

    Returns:
      Learner with State as its state and SparseCoding as its parameters.
    """

    def encode(key, params, batch):
        del key  # Unused.
        return sparse_coding.encode(params, batch)

    return _learner(
        num_observed, hyperparams or AlternatingMinimizationHyperparams(), encode
    )


def masked(num_observed: int, hyperparams: MaskedHyperparams | None = None) -> Learner:
    """Alternating minimization whose encoder does not see all variables.

    In each step a share of the variables, drawn anew, is hidden from the encoder. The
    error and the gradient are of all. Candidates are judged with nothing hidden.

    Args:
      num_observed: D.
      hyperparams: `MaskedHyperparams()` if None.

    Returns:
      Learner, as `alternating_minimization` returns it.
    """
    hyperparams = hyperparams or MaskedHyperparams()

    def encode(key, params, batch):
        places = jax.random.uniform(key, (num_observed,), jnp.float32)
        num_hidden = jnp.round(hyperparams.hidden * num_observed)
        is_seen = jnp.argsort(jnp.argsort(places)) >= num_hidden.clip(
            max=num_observed - 1
        )
        dictionary = jnp.where(is_seen, params.dictionary, 0)
        seen = params._replace(dictionary=dictionary)
        return sparse_coding.encode(seen, jnp.where(is_seen, batch, 0))

    return _learner(num_observed, hyperparams, encode)


def _learner(
    num_observed: int,
    hyperparams: AlternatingMinimizationHyperparams | MaskedHyperparams,
    encode: Callable[[chex.PRNGKey, SparseCoding, chex.Array], chex.Array],
) -> Learner:
    """A learner that steps with the codes [B, K] of (key, model, batch)."""

    def init(key, live, train):
        del train  # Unused.
        params = sparse_coding.init(key, live.size, num_observed)
        params = params._replace(
            threshold=jnp.asarray(hyperparams.threshold, float),
            guard=jnp.asarray(hyperparams.guard, float),
        )
        return State(sparse_coding.mask(params, live))

    def step(key, state, live, batch):
        params = sparse_coding.mask(state.params, live)
        dictionary = params.dictionary
        h = encode(key, params, batch)
        residual = sparse_coding.decode(params, h) - batch
        gradient = sparse_coding.gradient(residual, h)
        # The mask also has XLA vectorise the subtraction on a CPU: it does not do
        # so where all operands have one shape.
        dictionary = live[:, None] * (dictionary - hyperparams.step_size * gradient)
        params = params._replace(dictionary=sparse_coding.normalise(dictionary))
        return State(params), _info(jnp.einsum("nd,nd->n", residual, residual))

    def evaluate(key, state, live, data):
        del key  # Unused.
        params = sparse_coding.mask(state.params, live)
        h = sparse_coding.encode(params, data)
        return _info(sparse_coding.squared_error(params, data, h))

    return Learner(init, step, evaluate, sparse_coding.mask)
