"""Viterbi trees of a grammar, and trees that nothing was learned for."""

import chex
import jax
import jax.numpy as jnp

from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg import inside
from lvm_jax.pcfg.grammar import PAD, Pcfg


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


def branching(sentences: chex.Array, *, left: bool) -> chex.Array:
    """Spans [B, L - 1, 3] of the left- or right-branching trees of sentences [B, L]."""
    num_words = pcfg.num_words(sentences)[:, None]
    step = jnp.arange(max(sentences.shape[1], 2) - 1)
    first = jnp.zeros_like(step + num_words) if left else step + 0 * num_words
    last = num_words - 1 - step if left else num_words - 1 + 0 * step
    spans = jnp.stack([first, last, jnp.zeros_like(last)], axis=-1)
    return jnp.where((step < num_words - 1)[..., None], spans, PAD).astype(jnp.int32)
