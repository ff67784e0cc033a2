"""Probabilistic context-free grammars: the model, its data, and how it is learned.

>>> import jax
>>> import lvm_jax
>>> from lvm_jax import pcfg
>>> grammar = pcfg.random_grammar(lvm_jax.key(0), 2, 2, 8, sharpness=3.0, radius=0.5)
>>> dataset = pcfg.from_truth("random", lvm_jax.key(1), grammar, 50, max_words=4)
>>> bool((pcfg.log_likelihood(grammar, dataset.samples) < 0).all())  # nats
True
>>> trees = jax.jit(pcfg.viterbi)(grammar, dataset.samples)
>>> trees.shape  # sentence, span; first word, last word and nonterminal
(50, 3, 3)
"""

from lvm_jax.pcfg.corpus import (
    UNKNOWN,
    Corpus,
    bucket_lengths,
    read_corpus,
    to_buckets,
)
from lvm_jax.pcfg.data import (
    ENGLISH,
    from_truth,
    log_length_share,
    random_grammar,
    read_grammar,
)
from lvm_jax.pcfg.grammar import (
    PAD,
    Live,
    Pcfg,
    check_proper,
    expected_counts,
    has_tree,
    log_length_probs,
    log_likelihood,
    normalise,
    num_words,
    offspring_radius,
    sample,
)
from lvm_jax.pcfg.maximum_likelihood import (
    MaximumLikelihoodHyperparams,
    maximum_likelihood,
    score,
)
from lvm_jax.pcfg.neural import DIMENSION, grammar_of
from lvm_jax.pcfg.parse import branching, viterbi
from lvm_jax.pcfg.recovery import (
    SpanCounts,
    Truth,
    annotate,
    compare,
    count_spans,
    recover,
    recover_nonterminals,
)
from lvm_jax.pcfg.task import of_nonterminals, task

__all__ = [
    "DIMENSION",
    "ENGLISH",
    "PAD",
    "UNKNOWN",
    "Corpus",
    "Live",
    "MaximumLikelihoodHyperparams",
    "Pcfg",
    "SpanCounts",
    "Truth",
    "annotate",
    "branching",
    "bucket_lengths",
    "check_proper",
    "compare",
    "count_spans",
    "expected_counts",
    "from_truth",
    "grammar_of",
    "has_tree",
    "log_length_probs",
    "log_length_share",
    "log_likelihood",
    "maximum_likelihood",
    "normalise",
    "num_words",
    "of_nonterminals",
    "offspring_radius",
    "random_grammar",
    "read_corpus",
    "read_grammar",
    "recover",
    "recover_nonterminals",
    "sample",
    "score",
    "task",
    "to_buckets",
    "viterbi",
]
