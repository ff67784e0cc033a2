"""What two grammars' trees have in common, and which true symbols are recovered."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax import recovery
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg.grammar import PAD, Live, Pcfg
from lvm_jax.pcfg.parse import viterbi
from lvm_jax.types import Recovery

MATCH_TOTAL_VARIATION = 0.1  # of the word distributions of two preterminals
MATCH_LABELLED_ERROR = 0.5  # 1 - F1 of the spans of two nonterminals
LEAST_USAGE = 1e-3  # of all words or spans, for a symbol that counts as used


class Truth(NamedTuple):
    """A true grammar with its trees of some sentences.

    Attributes:
      grammar: Pcfg.
      sentences: tree of arrays [n, L], padded by -1.
      spans: tree of arrays [n, L - 1, 3], as `viterbi` gives them.
    """

    grammar: Pcfg
    sentences: Any
    spans: Any


def annotate(grammar: Pcfg, sentences: Any) -> Truth:
    """The grammar with its most probable trees of a tree of sentences [n, L]."""
    parse = jax.jit(viterbi)
    spans = jax.tree.map(lambda bucket: parse(grammar, bucket), sentences)
    return Truth(grammar, sentences, spans)


def _labels(spans: chex.Array) -> chex.Array:
    """[B, L, L] symbol of the span from each first to each last word, else -1."""
    batch, num_spans, _ = spans.shape
    first, last, symbol = jnp.moveaxis(spans, -1, 0)
    size = num_spans + 1
    labels = jnp.full((batch, size, size), PAD, jnp.int32)
    first = jnp.where(first < 0, size, first)
    return labels.at[jnp.arange(batch)[:, None], first, last].set(symbol, mode="drop")


class SpanCounts(NamedTuple):
    """Spans of true and learned trees, counted over sentences.

    Attributes:
      num_sentences: []. Sentences with a tree.
      total: []. Spans of the true trees, as many as of the learned ones.
      shared: []. Spans in both.
      by_label: [N*, N]. Spans in both, by the true and the learned nonterminal.
      true: [N*]. Spans of each true nonterminal.
      learned: [N]. Spans of each learned nonterminal.
    """

    num_sentences: chex.Array
    total: chex.Array
    shared: chex.Array
    by_label: chex.Array
    true: chex.Array
    learned: chex.Array

    def f1(self) -> chex.Array:
        """[]. Micro F1. Both trees have a span less than words, so it is a share."""
        return self.shared / jnp.maximum(self.total, 1)

    def f1_inner(self) -> chex.Array:
        """[]. Micro F1 without the spans of whole sentences."""
        shared = self.shared - self.num_sentences
        return shared / jnp.maximum(self.total - self.num_sentences, 1)

    def labelled_f1(self) -> chex.Array:
        """[N*, N]. F1 of a learned nonterminal's spans as a true nonterminal's."""
        size = self.true[:, None] + self.learned
        return 2 * self.by_label / jnp.maximum(size, 1)


def count_spans(
    true: chex.Array, learned: chex.Array, num_true: int, num_learned: int
) -> SpanCounts:
    """Counts what the trees of a batch of sentences have in common.

    Args:
      true: [B, L - 1, 3] spans.
      learned: [B, L - 1, 3] spans.
      num_true: N*, true nonterminals.
      num_learned: N, learned nonterminals.

    Returns:
      SpanCounts, which may be added over batches.
    """
    a = jax.nn.one_hot(_labels(true), num_true)
    b = jax.nn.one_hot(_labels(learned), num_learned)
    by_label = jnp.einsum("bijm,bijn->mn", a, b)
    of_true, of_learned = a.sum((0, 1, 2)), b.sum((0, 1, 2))
    num_sentences = (true[:, 0, 0] >= 0).sum().astype(by_label.dtype)
    return SpanCounts(
        num_sentences, of_true.sum(), by_label.sum(), by_label, of_true, of_learned
    )


def compare(truth: Truth, learned: Pcfg) -> tuple[SpanCounts, chex.Array]:
    """Counts the spans of Viterbi trees, and how often each preterminal is used.

    Args:
      truth: of N* nonterminals.
      learned: Pcfg with T preterminals.

    Returns:
      SpanCounts, and [T], the share of words that a preterminal is expected to emit.
    """
    num_true = truth.grammar.log_root.shape[0]
    num_learned = learned.log_root.shape[0]

    def of_batch(batch):
        words, spans = batch
        counts = pcfg.expected_counts(learned, words)
        trees = viterbi(learned, words)
        return (
            count_spans(spans, trees, num_true, num_learned),
            counts.log_emissions.sum(1),
        )

    parts = [
        pcfg.sum_over_batches(of_batch, bucket)
        for bucket in zip(
            jax.tree.leaves(truth.sentences),
            jax.tree.leaves(truth.spans),
            strict=True,
        )
    ]
    spans, usage = jax.tree.map(lambda *values: sum(values), *parts)
    return spans, usage / jnp.maximum(usage.sum(), 1)


def _total_variation(a: chex.Array, b: chex.Array) -> chex.Array:
    """[M, N] from rows of log-probabilities [M, V] and [N, V]."""
    distances = jax.lax.map(
        lambda row: jnp.abs(jnp.exp(row) - jnp.exp(b)).sum(-1), jnp.asarray(a)
    )
    return 0.5 * distances


def _with_trees(truth: Truth | Pcfg, held_out: Any) -> Truth:
    if isinstance(truth, Pcfg):
        truth = annotate(truth, held_out)
    if not jax.tree.leaves(truth.sentences):
        raise ValueError("expected sentences whose trees are compared, got none")
    return truth


def _live(model: Pcfg, live: Live | None) -> Live:
    if live is None:
        return Live(
            jnp.ones(model.log_root.shape[0]), jnp.ones(model.log_emissions.shape[0])
        )
    return Live(*live)


def recover(
    truth: Truth | Pcfg, model: Pcfg, live: Live | None = None, held_out: Any = None
) -> Recovery:
    """Which symbols of the true grammar a learned one has.

    Preterminals match by the total variation between their words, at most 0.1; the
    filter drops those that emit less than a thousandth of all words, then those
    within the matching distance of a more used one. Nonterminals match by the F1 of
    their spans in Viterbi trees, at least 0.5. Both by minimum-cost assignment.

    Args:
      truth: of N* nonterminals and T* preterminals; a Pcfg is given its trees of the
        held-out sentences.
      model: Pcfg with N nonterminals and T preterminals.
      live: masks of the learned symbols; None if there is no padding.
      held_out: tree of sentences [n, L]; only where the truth has none.

    Returns:
      Recovery of the preterminals. Its measures are `num_nonterminals_recovered`, the
      true nonterminals matched by their spans, `f1`, the share of the true trees'
      spans that the learned trees have, and `f1_inner`, the same without the spans of
      whole sentences.

    Raises:
      ValueError: if there are no sentences to compare trees of.
    """
    truth, live = _with_trees(truth, held_out), _live(model, live)
    spans, usage = compare(truth, model)
    emissions = model.log_emissions
    preterminals = recovery.recover(
        _total_variation(truth.grammar.log_emissions, emissions),
        live=live.preterminals,
        used=usage >= LEAST_USAGE,
        distance=_total_variation(emissions, emissions),
        weight=usage,
        match_threshold=MATCH_TOTAL_VARIATION,
        duplicate_threshold=MATCH_TOTAL_VARIATION,
    )
    nonterminals = recovery.assign(
        1 - spans.labelled_f1(), live.nonterminals > 0, MATCH_LABELLED_ERROR
    )
    measures = {
        "num_nonterminals_recovered": (nonterminals >= 0).sum(),
        "f1": spans.f1(),
        "f1_inner": spans.f1_inner(),
    }
    return preterminals._replace(measures=measures)


def recover_nonterminals(
    truth: Truth | Pcfg, model: Pcfg, live: Live | None = None, held_out: Any = None
) -> Recovery:
    """Which nonterminals of the true grammar a learned one has.

    They match by the F1 of their spans in Viterbi trees, at least 0.5, by minimum-cost
    assignment. The filter drops those with less than a thousandth of all spans; no two
    are duplicates, as no two have a span in common.

    Args:
      truth: of N* nonterminals; a Pcfg is given its trees of the held-out sentences.
      model: Pcfg with N nonterminals.
      live: masks of the learned symbols; None if there is no padding.
      held_out: tree of sentences [n, L]; only where the truth has none.

    Returns:
      Recovery of the nonterminals.

    Raises:
      ValueError: if there are no sentences to compare trees of.
    """
    spans, _ = compare(_with_trees(truth, held_out), model)
    usage = spans.learned / jnp.maximum(spans.total, 1)
    return recovery.recover(
        1 - spans.labelled_f1(),
        live=_live(model, live).nonterminals,
        used=usage >= LEAST_USAGE,
        distance=jnp.full((usage.size, usage.size), recovery.FORBIDDEN),
        weight=usage,
        match_threshold=MATCH_LABELLED_ERROR,
        duplicate_threshold=0.0,
    )
