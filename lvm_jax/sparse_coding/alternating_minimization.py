"""Sparse coding learned by alternating minimization.

Each step encodes the batch with the pseudo-inverse of the dictionary and a shifted
ReLU, then follows the gradient of half the mean squared error for the dictionary,
codes held fixed, and scales the columns to unit length:

    h = relu(pinv(A) x - threshold),    A <- normalise(A - rate (A h - x) h^T)

Source: Li, Liang and Risteski, "Recovery Guarantee of Non-negative Matrix
Factorization via Alternating Updates", NIPS 2016; settings from Buhai et al. 2020.
"""

from typing import NamedTuple

import jax.numpy as jnp

from lvm_jax.sparse_coding import model as sparse_coding
from lvm_jax.sparse_coding.model import SparseCoding
from lvm_jax.types import Info, Learner


class AlternatingMinimizationHyperparams(NamedTuple):
    """Numbers of the algorithm; the defaults are the study's.

    Attributes:
      step_size: rate of the dictionary's gradient descent.
      threshold: of the encoder's shifted ReLU.
    """

    step_size: float = 0.1
    threshold: float = sparse_coding.THRESHOLD


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
    hyperparams = hyperparams or AlternatingMinimizationHyperparams()

    def init(key, live, train):
        del train  # Unused.
        params = sparse_coding.init(key, live.size, num_observed)
        threshold = jnp.asarray(hyperparams.threshold, float)
        return State(sparse_coding.mask(params, live)._replace(threshold=threshold))

    def step(key, state, live, batch):
        del key  # Unused.
        params = sparse_coding.mask(state.params, live)
        dictionary = params.dictionary
        h = sparse_coding.encode(params, batch)
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
