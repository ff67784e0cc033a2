"""What grammars are learned from, and how they are judged."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from lvm_jax.numerics import settings, split
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg import recovery
from lvm_jax.pcfg.corpus import bucket_lengths, to_buckets
from lvm_jax.pcfg.grammar import PAD, Live
from lvm_jax.pcfg.maximum_likelihood import maximum_likelihood
from lvm_jax.types import Buckets, Dataset, Learner, Task


@settings()
def task(
    dataset: Dataset,
    learner: Callable[..., Learner] = maximum_likelihood,
    *,
    num_held_out: int | None = None,
    split_seed: int = 0,
    num_words: int | None = None,
    num_parsed: int = 200,
    num_buckets: int = 3,
    batch_size: int = 16,
) -> Task:
    """The task of learning grammars from sentences.

    Args:
      dataset: sentences [N, L], padded by -1, and a Pcfg if the truth is known.
      learner: (V, hyperparameters) -> Learner, such as `maximum_likelihood`.
      num_held_out: sentences that are held out of training; 1000 or a tenth if None.
      split_seed: which ones, of sentences that were not drawn from a grammar. Of those
        that were, they are the first ones.
      num_words: V; the truth's, or the largest number of the sentences and one, if
        None.
      num_parsed: held-out sentences whose trees are compared with the true ones, at
        most.
      num_buckets: lengths that sentences are padded to, at most.
      batch_size: of the plan; every bucket has so many sentences.

    Returns:
      Task whose truth is a recovery.Truth.

    Raises:
      ValueError: if there are too few sentences, one has a word that is none of V or
        padding before its end, or a number of the others is not positive.
    """
    for name, number in (("parsed", num_parsed), ("buckets", num_buckets)):
        if number < 1:
            raise ValueError(f"expected num_{name} of at least 1, got {number}")
    sentences, grammar = _check_sentences(dataset), dataset.truth
    if num_words is None:
        num_words = (
            int(sentences.max()) + 1
            if grammar is None
            else grammar.log_emissions.shape[1]
        )
    if sentences.max() >= num_words:
        raise ValueError(
            f"{dataset.name}: expected words below {num_words}, got {sentences.max()}"
        )
    seed = None if dataset.recipe else split_seed
    held_out, train = split(sentences, num_held_out, seed)
    bounds = bucket_lengths(pcfg.num_words(train), num_buckets, batch_size)
    bounds[-1] = max(bounds[-1], int(pcfg.num_words(held_out).max()))
    truth = None
    if grammar is not None:
        parsed = to_buckets(held_out[:num_parsed], bounds)
        truth = recovery.annotate(grammar, parsed)
    recipe = dataset.recipe
    if recipe is not None:
        cut = {"held_out": len(held_out), "parsed": num_parsed, "buckets": num_buckets}
        recipe = {**recipe, **cut}
    return Task.of(
        dataset,
        to_buckets(held_out, bounds),
        Buckets(to_buckets(train, bounds)),
        learner=functools.partial(learner, num_words),
        truth=truth,
        recover=recovery.recover,
        recipe=recipe,
    )


def _check_sentences(dataset: Dataset) -> np.ndarray:
    """The sentences [N, L] of a data set, whole numbers padded by -1 at the end."""
    sentences = np.asarray(dataset.samples)
    if sentences.ndim != 2 or not sentences.size or sentences.dtype.kind not in "iu":
        raise ValueError(
            f"{dataset.name}: expected sentences [N, L] of whole numbers, got "
            f"{sentences.dtype} of shape {sentences.shape}"
        )
    is_word = sentences != PAD
    is_wrong = (is_word & (sentences < 0)).any(1)
    is_wrong |= (is_word[:, 1:] & ~is_word[:, :-1]).any(1)
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise ValueError(
            f"{dataset.name}: expected words from 0 on, and {PAD} after the last one, "
            f"got {sentences[row].tolist()} in sentence {row + 1}"
        )
    return sentences


def of_nonterminals(task: Task) -> Task:
    """The same task, whose runs are compared with one another by their nonterminals.

    For `lvm_jax.agreement`, `consensus` and `recommend`: `task` compares preterminals.

    Args:
      task: of `task`.
    """
    kind = Live._fields.index("nonterminals")
    recover = recovery.recover_nonterminals
    return dataclasses.replace(task, recover=recover, kind=kind)
