"""Viterbi trees of a grammar, and what two grammars' trees have in common."""

import collections
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from lvm_jax import recovery
from lvm_jax.models import inside, pcfg
from lvm_jax.models.pcfg import PAD, Live, Pcfg
from lvm_jax.types import Recovery

MATCH_TOTAL_VARIATION = 0.1  # of the word distributions of two preterminals
MATCH_LABELLED_ERROR = 0.5  # 1 - F1 of the spans of two nonterminals
LEAST_USAGE = 1e-3  # of all words, for a preterminal that counts as used


def viterbi(grammar: Pcfg, sentences: chex.Array) -> chex.Array:
    """The most probable tree of each sentence.

    The charts are those of the inside algorithm with the largest product in place of
    the sum; the tree is read off from the top, each span's best split and children
    found anew.

    Args:
      grammar: Pcfg.
      sentences: [B, L] int, padded by -1.

    Returns:
      [B, L - 1, 3] int32: first word, last word and nonterminal of each span of two
      words and more, the whole sentence first; rows of -1 beyond the tree.
    """
    sentences = pcfg.at_least_two_places(sentences)
    length = sentences.shape[1]
    log_words = pcfg.word_log_probs(grammar, sentences)
    charts, _ = inside.fill(grammar.log_rules, log_words, use_max=True)
    wider = jnp.log(jnp.swapaxes(charts.by_first, 2, 3)[:, :, : length - 1])
    wider += charts.first_scales[:, :, : length - 1, None]
    num_nonterminals, num_preterminals = wider.shape[-1], log_words.shape[-1]

    def impossible(shape, size):
        return jnp.full((*shape, size), -jnp.inf, wider.dtype)

    words = log_words[:, :, None]
    scores = jnp.concatenate(
        [
            jnp.concatenate([impossible(words.shape[:3], num_nonterminals), words], -1),
            jnp.concatenate([wider, impossible(wider.shape[:3], num_preterminals)], -1),
        ],
        axis=2,
    )
    return jax.vmap(_read_tree, (None, 0, 0))(
        grammar, scores, pcfg.num_words(sentences)
    )


def _read_tree(grammar: Pcfg, scores: chex.Array, num_words: chex.Array) -> chex.Array:
    """The spans [L - 1, 3] of the best tree.

    Args:
      grammar: Pcfg.
      scores: [L, L, N + T]. Best log-probability by first word, width - 1, symbol.
      num_words: [] int.
    """
    length, _, num_symbols = scores.shape
    num_nonterminals = grammar.log_root.shape[0]
    left_widths = jnp.arange(1, length)

    def best_split(first, width, symbol):
        left = scores[first, : length - 1]
        right_width = jnp.clip(width - left_widths, 1)
        right = scores[jnp.minimum(first + left_widths, length - 1), right_width - 1]
        total = left[:, :, None] + right[:, None] + grammar.log_rules[symbol]
        total = jnp.where((left_widths < width)[:, None, None], total, -jnp.inf)
        best = jnp.argmax(total.reshape(length - 1, -1))
        return jnp.unravel_index(best, (length - 1, num_symbols, num_symbols))

    def read(index, carry):
        spans, count = carry
        first, width, symbol = spans[index]
        split, left, right = best_split(first, width, symbol)
        left_width = split + 1
        is_span = index < num_words - 1
        for start, size, child in (
            (first, left_width, left),
            (first + left_width, width - left_width, right),
        ):
            has_span = is_span & (child < num_nonterminals)
            span = jnp.stack([start, size, child]).astype(jnp.int32)
            place = jnp.where(has_span, count, length)
            spans = spans.at[place].set(span, mode="drop")
            count += has_span
        return spans, count

    whole = scores[0, jnp.clip(num_words, 1) - 1, :num_nonterminals]
    root = jnp.argmax(grammar.log_root + whole)
    top = jnp.stack([0, num_words, root]).astype(jnp.int32)
    spans = jnp.zeros((length - 1, 3), jnp.int32).at[0].set(top)
    spans, _ = jax.lax.fori_loop(0, length - 1, read, (spans, jnp.int32(1)))
    first, width, symbol = spans.T
    spans = jnp.stack([first, first + width - 1, symbol], axis=1)
    return jnp.where(jnp.arange(length - 1)[:, None] < num_words - 1, spans, PAD)


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


def compare(
    learned: Pcfg, sentences: Any, true_spans: Any, num_true: int
) -> tuple[SpanCounts, chex.Array]:
    """Counts the spans of Viterbi trees, and how often each preterminal is used.

    Args:
      learned: Pcfg with T preterminals.
      sentences: tree of arrays [B, L], padded by -1.
      true_spans: the true trees, a tree of arrays [B, L - 1, 3].
      num_true: N*, true nonterminals.

    Returns:
      SpanCounts, and [T], the share of words that a preterminal is expected to emit.
    """
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
            jax.tree.leaves(sentences), jax.tree.leaves(true_spans), strict=True
        )
    ]
    spans, usage = jax.tree.map(lambda *values: sum(values), *parts)
    return spans, usage / jnp.maximum(usage.sum(), 1)


def branching(sentences: chex.Array, *, left: bool) -> chex.Array:
    """Spans [B, L - 1, 3] of the left- or right-branching trees of sentences [B, L]."""
    num_words = pcfg.num_words(sentences)[:, None]
    step = jnp.arange(max(sentences.shape[1], 2) - 1)
    first = jnp.zeros_like(step + num_words) if left else step + 0 * num_words
    last = num_words - 1 - step if left else num_words - 1 + 0 * step
    spans = jnp.stack([first, last, jnp.zeros_like(last)], axis=-1)
    return jnp.where((step < num_words - 1)[..., None], spans, PAD).astype(jnp.int32)


def _total_variation(a: chex.Array, b: chex.Array) -> chex.Array:
    """[M, N] from rows of log-probabilities [M, V] and [N, V]."""
    distances = jax.lax.map(
        lambda row: jnp.abs(jnp.exp(row) - jnp.exp(b)).sum(-1), jnp.asarray(a)
    )
    return 0.5 * distances


def recover(
    truth: Pcfg, learned: Pcfg, usage: chex.Array, spans: SpanCounts, live: Live
) -> Recovery:
    """Which symbols of the true grammar a learned one has.

    Preterminals match by the total variation between their words, at most 0.1; the
    filter drops those that emit less than a thousandth of all words, then those
    within the matching distance of a more used one. Nonterminals match by the F1 of
    their spans in Viterbi trees, at least 0.5. Both by minimum-cost assignment.

    Args:
      truth: Pcfg with N* nonterminals and T* preterminals.
      learned: Pcfg with N nonterminals and T preterminals.
      usage: [T]. Share of words that each preterminal is expected to emit.
      spans: counts of true and learned Viterbi trees.
      live: masks of the learned symbols.

    Returns:
      Recovery of the preterminals. Its measures are `num_nonterminals_recovered`, the
      true nonterminals matched by their spans, `f1`, the share of the true trees'
      spans that the learned trees have, and `f1_inner`, the same without the spans of
      whole sentences.
    """
    emissions = learned.log_emissions
    preterminals = recovery.recover(
        _total_variation(truth.log_emissions, emissions),
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
    # JAX would sort the keys of a plain dict, and with them the columns of tables.
    measures = collections.OrderedDict(
        num_nonterminals_recovered=(nonterminals >= 0).sum(),
        f1=spans.f1(),
        f1_inner=spans.f1_inner(),
    )
    return preterminals._replace(measures=measures)
