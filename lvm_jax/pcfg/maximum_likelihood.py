"""Neural PCFGs learned by gradient through the inside algorithm.

Each step follows the gradient of the mean log P(sentence) of a batch with Adam, its
norm clipped. The study takes one sentence a step; larger batches are a departure,
faster for each sentence and with another learning rate at its best.

Source: Buhai et al. 2020, on neural PCFGs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg import neural
from lvm_jax.types import Info, Learner


class MaximumLikelihoodHyperparams(NamedTuple):
    """Numbers of the algorithm; the defaults are the study's.

    Attributes:
      learning_rate: Adam's.
      max_norm: the gradient is scaled down to this Euclidean norm.
    """

    learning_rate: float = 0.001
    max_norm: float = 3.0


class State(NamedTuple):
    """What a run of the algorithm carries from step to step."""

    params: dict
    optimizer: optax.OptState


def _info(log_likelihood, num_words) -> Info:
    per_word = log_likelihood / jnp.maximum(num_words, 1)
    return Info(per_word, {"nll": -per_word})


def score(grammar: pcfg.Pcfg, sentences: Any) -> tuple[jax.Array, jax.Array]:
    """log P of all sentences in nats, and their number of words.

    Sentences of one word have no tree and count for neither.

    Args:
      grammar: Pcfg.
      sentences: tree of arrays [N, L], padded by -1.

    Returns:
      [] and [].
    """

    def of_batch(batch):
        words = jnp.where(pcfg.has_tree(batch), pcfg.num_words(batch), 0)
        return pcfg.log_likelihood(grammar, batch).sum(), words.sum()

    parts = [
        pcfg.sum_over_batches(of_batch, bucket) for bucket in jax.tree.leaves(sentences)
    ]
    log_likelihoods, num_words = zip(*parts, strict=True)
    return sum(log_likelihoods), sum(num_words)


def maximum_likelihood(
    num_words: int,
    hyperparams: MaximumLikelihoodHyperparams | None = None,
    *,
    dimension: int = neural.DIMENSION,
) -> Learner:
    """Maximum likelihood for neural PCFGs as a Learner.

    A level is a pair of numbers of nonterminals and preterminals, and `live` a pair
    of masks. Batches are sentences [B, L], padded by -1; data for evaluation is a tree
    of such arrays. The objective is log P(sentences) divided by their number of
    words, and the metric `nll` minus that.

    Args:
      num_words: V, the size of the vocabulary.
      hyperparams: the study's if None.
      dimension: of the networks' embeddings and hidden layers.

    Returns:
      Learner with State as its state and the networks' parameters as its parameters.
    """
    hyperparams = hyperparams or MaximumLikelihoodHyperparams()
    optimizer = optax.chain(
        optax.clip_by_global_norm(hyperparams.max_norm),
        optax.adam(hyperparams.learning_rate),
    )

    def init(key, live, train):
        del train  # Unused.
        params = neural.init(key, live, num_words, dimension)
        return State(params, optimizer.init(params))

    def step(key, state, live, batch):
        del key  # Unused.

        def loss(params):
            grammar = neural.grammar_of(params, live)
            total = pcfg.log_likelihood(grammar, batch).sum()
            return -total / batch.shape[0], total

        gradient, total = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer)
        params = optax.apply_updates(state.params, updates)
        words = jnp.where(pcfg.has_tree(batch), pcfg.num_words(batch), 0)
        return State(params, optimizer_state), _info(total, words.sum())

    def evaluate(key, state, live, data):
        del key  # Unused.
        return _info(*score(neural.grammar_of(state.params, live), data))

    return Learner(init, step, evaluate, neural.grammar_of)
