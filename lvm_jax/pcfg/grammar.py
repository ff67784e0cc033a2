"""Probabilistic context-free grammars as pure functions of log-probabilities.

    root -> A,    A -> B C,    P -> word

with nonterminals A, and B, C each a nonterminal or a preterminal P: a span of one word
is a preterminal, a longer one a nonterminal. A sentence has at least two words.
Sentences are word numbers [B, L], padded at the end by -1. Symbols are numbered with
the nonterminals first, N of them, then the T preterminals.

Source: Buhai et al., "Empirical Study of the Benefits of Overparameterization in
Learning Latent Variable Models", ICML 2020, on neural PCFGs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax.pcfg import inside

PAD = -1

# Stands for log 0. Finite, so that a gradient through it is zero and not NaN.
LOG_ZERO = -1e9

# A softmax' gradient of so many units in the last place of its count is rounding.
_ROUNDING = 8

_DRAWS = 4096  # sentences drawn by one compiled call
_LEAST_ACCEPTED = 1e-3


class Pcfg(NamedTuple):
    """Log-probabilities of a grammar, in nats.

    Attributes:
      log_root: [N]. Of the symbol at the root.
      log_rules: [N, N + T, N + T]. Of the left and the right child of each nonterminal.
      log_emissions: [T, V]. Of the word of each preterminal.
    """

    log_root: chex.Array
    log_rules: chex.Array
    log_emissions: chex.Array


class Live(NamedTuple):
    """Masks of the symbols that take part, nonzero for those that do.

    Attributes:
      nonterminals: [N].
      preterminals: [T].
    """

    nonterminals: chex.Array
    preterminals: chex.Array


def normalise(logits: Pcfg, live: Live | None = None) -> Pcfg:
    """The grammar whose probabilities are softmaxes of logits over live symbols.

    Args:
      logits: Pcfg of any numbers.
      live: masks; None if every symbol is live.

    Returns:
      Pcfg. A dead symbol has probability exp(-1e9) as a root and as a child, and so
      have its rules and words; no gradient reaches its logits. The gradient for a
      logit is zero where it is but rounding of its count; it is of reverse mode only.
    """
    if live is None:
        return Pcfg(
            _log_softmax(logits.log_root),
            _softmax_of_pairs(logits.log_rules),
            _log_softmax(logits.log_emissions),
        )
    nonterminals, preterminals = (mask > 0 for mask in live)
    symbols = jnp.concatenate([nonterminals, preterminals])
    pairs = symbols[:, None] & symbols

    def keep(is_live, x):
        return jnp.where(is_live, x, LOG_ZERO)

    whole = normalise(
        Pcfg(
            keep(nonterminals, logits.log_root),
            keep(pairs, logits.log_rules),
            logits.log_emissions,
        )
    )
    return Pcfg(
        keep(nonterminals, whole.log_root),
        keep(nonterminals[:, None, None] & pairs, whole.log_rules),
        keep(preterminals[:, None], whole.log_emissions),
    )


@jax.custom_vjp
def _log_softmax(logits: chex.Array) -> chex.Array:
    """Log-softmax over the last axis, without gradients that are all rounding.

    The gradient for a logit is its count less its probability times the sum of counts.
    Where a choice is certain the two are equal, and what rounding leaves of them would
    be a whole step of Adam, always the same way: networks grew without bound. An entry
    whose gradient is a few units in the last place of its count gets none; the others
    keep theirs, so that a choice that is nearly certain can still be unlearned.
    """
    return jax.nn.log_softmax(logits)


def _log_softmax_forward(logits):
    log_probs = _log_softmax(logits)
    return log_probs, log_probs


def _log_softmax_backward(log_probs, counts):
    expected = jnp.exp(log_probs) * counts.sum(-1, keepdims=True)
    difference = counts - expected
    resolution = _ROUNDING * jnp.finfo(counts.dtype).eps
    is_rounding = jnp.abs(difference) <= resolution * jnp.abs(counts)
    return (jnp.where(is_rounding, 0, difference),)


_log_softmax.defvjp(_log_softmax_forward, _log_softmax_backward)


def _softmax_of_pairs(logits: chex.Array) -> chex.Array:
    flat = logits.reshape(logits.shape[0], -1)
    return _log_softmax(flat).reshape(logits.shape)


def num_words(sentences: chex.Array) -> chex.Array:
    """[B] int. Words of each of the padded sentences [B, L]."""
    return (sentences >= 0).sum(-1)


def has_tree(sentences: chex.Array) -> chex.Array:
    """[B] bool. Whether sentences [B, L] have the two words that a tree needs."""
    return num_words(sentences) >= 2


@jax.custom_vjp
def _rows(table: chex.Array, index: chex.Array) -> chex.Array:
    """Rows [..., T] of a table [V, T] by their indices [...].

    The gradient of a row is a sum over the places that have it. A CPU adds these up in
    order; an accelerator would add them in any order, differently from run to run, and
    takes the product with a matrix of zeros and ones instead.
    """
    return table[index]


def _rows_forward(table, index):
    return table[index], (table, index)


def _rows_backward(residual, cotangent):
    table, index = residual

    def in_order(index, cotangent):
        return jax.linear_transpose(lambda table: table[index], table)(cotangent)[0]

    def as_product(index, cotangent):
        is_row = jax.nn.one_hot(index, table.shape[0], dtype=cotangent.dtype)
        return jnp.einsum("...v,...t->vt", is_row, cotangent)

    return (
        jax.lax.platform_dependent(index, cotangent, cpu=in_order, default=as_product),
        None,
    )


_rows.defvjp(_rows_forward, _rows_backward)


def word_log_probs(grammar: Pcfg, sentences: chex.Array) -> chex.Array:
    """[B, L, T] log P(word | preterminal) at each place of sentences [B, L]."""
    return _rows(grammar.log_emissions.T, jnp.maximum(sentences, 0))


def at_least_two_places(sentences: chex.Array) -> chex.Array:
    """The sentences [B, L], padded to two places if they have one."""
    missing = max(0, 2 - sentences.shape[1])
    return jnp.pad(sentences, ((0, 0), (0, missing)), constant_values=PAD)


def log_likelihood(grammar: Pcfg, sentences: chex.Array) -> chex.Array:
    """log P(sentence), summed over trees by the inside algorithm.

    Args:
      grammar: Pcfg.
      sentences: [B, L] int, padded by -1.

    Returns:
      [B], in nats. 0 where a sentence has fewer than two words, and so no tree.
    """
    sentences = at_least_two_places(sentences)
    return inside.log_likelihood(
        grammar.log_root,
        grammar.log_rules,
        word_log_probs(grammar, sentences),
        num_words(sentences),
    )


def expected_counts(grammar: Pcfg, sentences: chex.Array) -> Pcfg:
    """How often each root, rule and word is used, summed over sentences.

    The expectation over trees given the sentences; it equals the gradient of log P
    for the logarithms of the probabilities.

    Args:
      grammar: Pcfg.
      sentences: [B, L] int, padded by -1.

    Returns:
      Pcfg of counts.
    """
    return jax.grad(lambda g: log_likelihood(g, sentences).sum())(grammar)


def sum_over_batches(
    function: Callable[[Any], Any], data: Any, batch_size: int = 64
) -> Any:
    """Sums a function of sentences over batches of bounded size, one after another.

    Args:
      function: (batch) -> tree of arrays, zero for sentences without words.
      data: tree of arrays [N, ...] of sentences or spans. The last batch is filled up
        with rows of -1.
      batch_size: sentences of a batch.

    Returns:
      The function's value, summed.
    """
    num = jax.tree.leaves(data)[0].shape[0]
    batch_size = min(batch_size, num)
    missing = -num % batch_size

    def cut(leaf):
        spare = [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)
        leaf = jnp.pad(leaf, spare, constant_values=PAD)
        return leaf.reshape(-1, batch_size, *leaf.shape[1:])

    values = jax.lax.map(function, jax.tree.map(cut, data))
    return jax.tree.map(lambda value: value.sum(0), values)


@functools.partial(jax.jit, static_argnums=1)
def log_length_probs(grammar: Pcfg, max_words: int) -> chex.Array:
    """log P(a sentence has n words), n from 2 to `max_words`.

    The inside algorithm on words of probability one.

    Args:
      grammar: Pcfg.
      max_words: from 2.

    Returns:
      [max_words - 1], in nats.
    """
    total = jax.nn.logsumexp(grammar.log_emissions, axis=1)
    words = jnp.broadcast_to(total, (1, max_words, total.size))
    (log_probs,) = inside.log_likelihoods_of_starts(
        grammar.log_root, grammar.log_rules, words
    )
    return log_probs


def offspring_radius(grammar: Pcfg) -> float:
    """Spectral radius of the expected numbers of nonterminal children.

    Below one a derivation ends with probability one and has a finite expected length.

    Source: Booth and Thompson, "Applying probability measures to abstract languages",
    1973.
    """
    rules = np.exp(np.asarray(grammar.log_rules, np.float64))
    num = rules.shape[0]
    expected = rules.sum(2)[:, :num] + rules.sum(1)[:, :num]
    return float(np.abs(np.linalg.eigvals(expected)).max())


def check_proper(grammar: Pcfg) -> None:
    """Checks that derivations end.

    Raises:
      ValueError: if a nonterminal is expected to have too many offspring.
    """
    radius = offspring_radius(grammar)
    if not radius < 1:
        raise ValueError(
            "expected a proper grammar, with a spectral radius of expected offspring "
            f"below 1, got {radius:.3f}"
        )


def check_lengths(min_words: int, max_words: int) -> None:
    """Checks limits of the length of sentences; one of a word has no tree.

    Raises:
      ValueError: if they make no sense.
    """
    if not 2 <= min_words <= max_words:
        raise ValueError(
            "expected lengths of at least 2 words, the least no larger than the most, "
            f"got {min_words} to {max_words}"
        )


class _Tables(NamedTuple):
    """Cumulative probabilities: of the root [N], rules [N, S S], words [T, V]."""

    root: chex.Array
    rules: chex.Array
    emissions: chex.Array


def _draw(cumulative: chex.Array, uniform: chex.Array) -> chex.Array:
    """The index at which a row of cumulative probabilities passes a uniform number."""
    return jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")


def _sample_sentence(key: chex.PRNGKey, tables: _Tables, max_words: int):
    """[max_words] words, and whether the derivation ended within them."""
    num_nonterminals = tables.root.shape[0]
    num_symbols = num_nonterminals + tables.emissions.shape[0]
    root_key, key = jax.random.split(key)
    uniforms = jax.random.uniform(key, (2 * max_words - 1,))

    def expand(stack, height, symbol, uniform):
        pair = _draw(tables.rules[jnp.minimum(symbol, num_nonterminals - 1)], uniform)
        stack = stack.at[height - 1].set(pair % num_symbols, mode="drop")
        stack = stack.at[height].set(pair // num_symbols, mode="drop")
        return stack, height + 1

    def step(carry, uniform):
        """Replaces the leftmost symbol: the children, the left one on top."""
        stack, height, words, count = carry
        is_on = (height > 0) & (height + count <= max_words)
        symbol = stack[jnp.clip(height - 1, 0, max_words - 1)]
        is_word = symbol >= num_nonterminals
        taller, higher = expand(stack, height, symbol, uniform)
        row = tables.emissions[jnp.clip(symbol - num_nonterminals, 0)]
        longer = words.at[count].set(_draw(row, uniform), mode="drop")
        stack = jnp.where(is_on & ~is_word, taller, stack)
        words = jnp.where(is_on & is_word, longer, words)
        height = jnp.where(is_on, jnp.where(is_word, height - 1, higher), height)
        count += is_on & is_word
        return (stack, height, words, count), None

    root = _draw(tables.root, jax.random.uniform(root_key))
    stack = jnp.zeros(max_words, jnp.int32).at[0].set(root)
    words = jnp.full(max_words, PAD, jnp.int32)
    start = (stack, jnp.int32(1), words, jnp.int32(0))
    (_, height, words, _), _ = jax.lax.scan(step, start, uniforms)
    return words, height == 0


@functools.partial(jax.jit, static_argnums=(2, 3))
def _sample_batch(key, tables, num_draws, max_words):
    keys = jax.random.split(key, num_draws)
    return jax.vmap(_sample_sentence, (0, None, None))(keys, tables, max_words)


def sample(
    key: chex.PRNGKey,
    grammar: Pcfg,
    num_sentences: int,
    *,
    min_words: int = 2,
    max_words: int,
) -> np.ndarray:
    """Draws sentences from the root down, and rejects those of other lengths.

    The sentences come from the grammar's distribution given that the length is in
    range; `log_length_probs` has the probability of that.

    Args:
      key: random key.
      grammar: Pcfg.
      num_sentences: how many.
      min_words: the least length.
      max_words: the largest length.

    Returns:
      [num_sentences, max_words] int32, padded by -1.

    Raises:
      ValueError: if the grammar is improper, the lengths make no sense, or fewer than
        one sentence in a thousand has a length in range.
    """
    check_lengths(min_words, max_words)
    check_proper(grammar)
    share = float(jnp.exp(log_length_probs(grammar, max_words))[min_words - 2 :].sum())
    if not share >= _LEAST_ACCEPTED:
        raise ValueError(
            f"expected a grammar with one in {1 / _LEAST_ACCEPTED:.0f} sentences of "
            f"{min_words} to {max_words} words, got a share of {share:.2g}"
        )
    num_nonterminals = grammar.log_root.shape[0]
    flat_rules = grammar.log_rules.reshape(num_nonterminals, -1)
    tables = _Tables(
        *(
            jnp.cumsum(jnp.exp(log_p), axis=-1)
            for log_p in (grammar.log_root, flat_rules, grammar.log_emissions)
        )
    )
    kept, count, call = [], 0, 0
    while count < num_sentences:
        call_key = jax.random.fold_in(key, call)
        words, is_whole = _sample_batch(call_key, tables, _DRAWS, max_words)
        words = np.asarray(words)[np.asarray(is_whole)]
        kept.append(words[(words >= 0).sum(1) >= min_words])
        count += len(kept[-1])
        call += 1
    return np.concatenate(kept)[:num_sentences]
