"""The inside algorithm on padded batches, and its derivative by an outside pass.

    beta_ij(A) = sum_k sum_BC  P(A -> B C) beta_ik(B) beta_{k+1,j}(C)

for the words i to j. Every span has a vector over symbols and a scale of its own,

    beta_ij = v_ij exp(s_ij),    max_A v_ij(A) = exp(22),

so that the sums are matrix products of numbers that float32 can hold, and no
logarithm is taken but of scales. Charts are kept by first word and by last word: the
left children of a span's splits are then a slice of the one, the right children a
slice of the other. A few neighbouring widths share a compiled loop, padded to the
widest, which keeps the program small.

A word's preterminals only ever stand at an edge of a wider span. They are multiplied
into the rules once for each word, and a split that has a preterminal on one side costs
a product with a matrix of nonterminals by nonterminals.

The outside pass runs over the same loops backwards. It yields the posterior counts of
rules and words, the derivative of log P with respect to the logarithms of their
probabilities, and costs less time and far less compilation than differentiating
through the charts.

Range: with the largest rule at exp(30) and vectors at exp(22), a term is lost where it
is less than exp(-161) of the largest product of its span.

Sources: Baker, "Trainable grammars for speech recognition", 1979; Eisner,
"Inside-outside and forward-backward algorithms are just backprop", 2016.
"""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

_LOG_TOP = 22.0  # log of a span vector's largest entry
_LOG_RULE = 30.0  # added to the logarithms of rules
_TOP = math.exp(_LOG_TOP)
_SMALL, _LARGE = 1e-37, 1e37  # of float32
_WIDTHS_PER_LOOP = 5
_MAX_LOOPS = 4  # more widths a loop where a sentence would need more loops


class Rules(NamedTuple):
    """Rule probabilities times exp(30) by the kinds of both children.

    Attributes:
      nn: [N N, N]. Two nonterminals, parent last.
      nt: [T, N, N]. A nonterminal and a preterminal: preterminal, parent, nonterminal.
      tn: [T, N, N]. A preterminal and a nonterminal: the same order.
      tt: [T T, N]. Two preterminals, parent last.
    """

    nn: chex.Array
    nt: chex.Array
    tn: chex.Array
    tt: chex.Array


class Words(NamedTuple):
    """The words of a batch, as their preterminals.

    Attributes:
      vectors: [B, L, T]. Emission probabilities, the largest at exp(22).
      scales: [B, L + padding]. Their logarithmic scales.
      at_left: [B, L, N, N]. Rules whose left child is the word: parent, right child.
      at_right: [B, L + padding, N, N]. Rules whose right child is the word: parent,
        left child.
    """

    vectors: chex.Array
    scales: chex.Array
    at_left: chex.Array
    at_right: chex.Array


class Charts(NamedTuple):
    """Vectors and scales of all spans of two words and more.

    Attributes:
      by_first: [B, L, N, W]. By first word and width - 2.
      by_last: [B, L + padding, W, N]. By last word and L - width.
      first_scales: [B, L, W].
      last_scales: [B, L + padding, W].
    """

    by_first: chex.Array
    by_last: chex.Array
    first_scales: chex.Array
    last_scales: chex.Array


class _Loop(NamedTuple):
    """What the outside pass needs of a loop, a leading axis of widths on each.

    Attributes:
      weights: [B, n, u]. Scale of each split over the largest of the span.
      inverse: [B, n]. One over the largest entry of the span before normalisation.
    """

    weights: chex.Array
    inverse: chex.Array


def _max_product(a: chex.Array, b: chex.Array) -> chex.Array:
    """As the matrix product, with the largest product in place of their sum."""
    return (a[..., :, :, None] * b[..., None, :, :]).max(-2)


def _loops(length: int) -> list[list[int]]:
    """The widths from 3 to length in runs of neighbours, a compiled loop each."""
    widths = np.arange(3, length + 1)
    num_loops = min(-(-widths.size // _WIDTHS_PER_LOOP), _MAX_LOOPS)
    parts = np.array_split(widths, num_loops) if num_loops else []
    return [part.tolist() for part in parts]


def _spare(length: int) -> int:
    """Places beyond the last word that the widest span of a loop may reach."""
    return max(map(len, _loops(length)), default=0)


def _start(chart, starts):
    starts = [jnp.int32(start) for start in starts]
    return [jnp.int32(0), *starts, *[jnp.int32(0)] * (chart.ndim - 1 - len(starts))]


def _get(chart: chex.Array, shape: tuple[int, ...], *starts) -> chex.Array:
    """A block of the chart from the given places, which follow the batch axis."""
    return jax.lax.dynamic_slice(chart, _start(chart, starts), shape)


def _put(chart: chex.Array, block: chex.Array, *starts) -> chex.Array:
    return jax.lax.dynamic_update_slice(chart, block, _start(chart, starts))


def _clip(x: chex.Array) -> chex.Array:
    """Keeps outside values finite where the inside value they go with is zero."""
    return jnp.minimum(x, _LARGE)


def _add(chart: chex.Array, block: chex.Array, *starts) -> chex.Array:
    return _put(chart, _clip(_get(chart, block.shape, *starts) + block), *starts)


def _pair(left: chex.Array, right: chex.Array) -> chex.Array:
    """[B, n, X Y] products of entries of [B, n, X] and [B, n, Y]."""
    pairs = left[..., :, None] * right[..., None, :]
    return pairs.reshape(*pairs.shape[:-2], -1)


def _rules(log_rules: chex.Array) -> Rules:
    num, size, _ = log_rules.shape
    rules = jnp.exp(log_rules + _LOG_RULE)
    return Rules(
        rules[:, :num, :num].reshape(num, -1).T,
        rules[:, :num, num:].transpose(2, 0, 1),
        rules[:, num:, :num].transpose(1, 0, 2),
        rules[:, num:, num:].reshape(num, (size - num) ** 2).T,
    )


def _words(rules: Rules, log_emissions: chex.Array, product) -> Words:
    top = log_emissions.max(-1)
    vectors = jnp.exp(log_emissions - top[..., None] + _LOG_TOP)

    def apply(block):
        flat = product(vectors, block.reshape(block.shape[0], -1))
        return flat.reshape(*flat.shape[:-1], *block.shape[1:])

    spare = (0, _spare(vectors.shape[1]))
    return Words(
        vectors,
        jnp.pad(top - _LOG_TOP, ((0, 0), spare)),
        apply(rules.tn),
        jnp.pad(apply(rules.nt), ((0, 0), spare, (0, 0), (0, 0))),
    )


def _store(charts: Charts, length: int, width, values, top) -> tuple[Charts, Any]:
    """Normalises the spans of a width and writes them into the charts.

    Args:
      charts: of narrower spans.
      length: L.
      width: of the spans.
      values: [B, n, N]. Their sums over splits.
      top: [B, n]. Logarithmic scale of the values, rules' shift included.

    Returns:
      The charts, and [B, n], one over the largest value of each span.
    """
    largest = jnp.maximum(values.max(-1), _SMALL)
    vectors = values / largest[..., None] * _TOP
    scales = top + jnp.log(largest) - _LOG_TOP - _LOG_RULE
    charts = Charts(
        _put(charts.by_first, vectors[..., None], 0, 0, width - 2),
        _put(charts.by_last, vectors[:, :, None], width - 1, length - width),
        _put(charts.first_scales, scales[..., None], 0, width - 2),
        _put(charts.last_scales, scales[..., None], width - 1, length - width),
    )
    return charts, 1 / largest


def _split_weights(charts: Charts, words: Words, length, width, num, inner):
    """Scale of every split of the spans of a width.

    Args:
      charts: of narrower spans.
      words: of the batch.
      length: L.
      width: of the spans.
      num: n, how many spans, from the first word on.
      inner: how many splits into two nonterminals, those that do not exist included.

    Returns:
      [B, n] the largest, and [B, n, inner + 2] each over the largest: first the word
      on the left, last the word on the right.
    """
    batch = words.scales.shape[0]
    after = _get(charts.last_scales, (batch, num, 1), width - 1, length - width + 1)
    before = _get(charts.first_scales, (batch, num, 1), 0, width - 3)
    last_word = _get(words.scales, (batch, num), width - 1)
    left = charts.first_scales[:, :num, :inner]
    right = _get(charts.last_scales, (batch, num, inner), width - 1, length - width + 2)
    exists = jnp.arange(inner) < width - 3
    logs = jnp.concatenate(
        [
            words.scales[:, :num, None] + after,
            jnp.where(exists, left + right, -jnp.inf),
            before + last_word[..., None],
        ],
        axis=-1,
    )
    top = logs.max(-1)
    return top, jnp.exp(logs - top[..., None])


def _edges(charts: Charts, length, width, num, weights):
    """Nonterminals beside a word at the left and at the right edge, [B, n, N] each."""
    batch, _, size, _ = charts.by_first.shape
    after = _get(charts.by_last, (batch, num, 1, size), width - 1, length - width + 1)
    before = _get(charts.by_first, (batch, num, size, 1), 0, 0, width - 3)
    return after[:, :, 0] * weights[..., :1], before[..., 0] * weights[..., -1:]


def _inner(charts: Charts, length, width, num, weights):
    """Left children [B, n, N, u], weighted, and right children [B, n, u, N]."""
    batch, _, size, _ = charts.by_first.shape
    inner = weights.shape[-1] - 2
    left = charts.by_first[:, :num, :, :inner] * weights[:, :, None, 1:-1]
    shape = (batch, num, inner, size)
    return left, _get(charts.by_last, shape, width - 1, length - width + 2)


def _flat(pairs: chex.Array) -> chex.Array:
    return pairs.reshape(*pairs.shape[:-2], -1)


def fill(
    log_rules: chex.Array, log_emissions: chex.Array, *, use_max: bool = False
) -> tuple[Charts, Any]:
    """Fills the charts of a batch.

    Args:
      log_rules: [N, N + T, N + T]. Log-probabilities of rules: parent, left child,
        right child, nonterminals first.
      log_emissions: [B, L, T]. Log-probabilities of every word from every
        preterminal; L is at least 2.
      use_max: whether to take the best derivation of a span in place of the sum.

    Returns:
      The charts, and what the outside pass needs besides.
    """
    product = _max_product if use_max else jnp.matmul
    batch, length, _ = log_emissions.shape
    size = log_rules.shape[0]
    rules = _rules(log_rules)
    words = _words(rules, log_emissions, product)
    spare, dtype = _spare(length), log_emissions.dtype
    depth = length - 1 + spare
    charts = Charts(
        jnp.zeros((batch, length, size, depth), dtype),
        jnp.zeros((batch, length + spare, depth, size), dtype),
        jnp.zeros((batch, length, depth), dtype),
        jnp.zeros((batch, length + spare, depth), dtype),
    )
    pairs = _pair(words.vectors[:, :-1], words.vectors[:, 1:])
    top = words.scales[:, : length - 1] + words.scales[:, 1:length]
    charts, inverse = _store(charts, length, 2, product(pairs, rules.tt), top)

    def fill_width(charts, width, num, inner):
        top, weights = _split_weights(charts, words, length, width, num, inner)
        after, before = _edges(charts, length, width, num, weights)
        at_right = _get(words.at_right, (batch, num, size, size), width - 1)
        parts = [
            product(words.at_left[:, :num], after[..., None])[..., 0],
            product(at_right, before[..., None])[..., 0],
        ]
        if inner:
            left, right = _inner(charts, length, width, num, weights)
            parts.append(product(_flat(product(left, right)), rules.nn))
        values = jnp.stack(parts).max(0) if use_max else sum(parts)
        charts, inverse = _store(charts, length, width, values, top)
        return charts, _Loop(weights, inverse)

    loops = []
    for widths in _loops(length):
        num, inner = length - widths[0] + 1, widths[-1] - 3
        charts, loop = jax.lax.scan(
            lambda charts, width, num=num, inner=inner: fill_width(
                charts, width, num, inner
            ),
            charts,
            jnp.array(widths, jnp.int32),
        )
        loops.append(loop)
    return charts, (words, loops, inverse)


def _whole(charts: Charts, lengths: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Vector [B, N] and scale [B] of each whole sentence."""
    width = jnp.arange(charts.first_scales.shape[-1]) + 2
    chosen = (lengths[:, None] == width).astype(charts.by_first.dtype)
    return (
        jnp.einsum("bnw,bw->bn", charts.by_first[:, 0], chosen),
        jnp.einsum("bw,bw->b", charts.first_scales[:, 0], chosen),
    )


def _score(log_root, charts, lengths):
    """[B] log P, and [B] P over the scale of the sentence."""
    vectors, scales = _whole(charts, lengths)
    total = vectors @ jnp.exp(log_root)
    score = jnp.log(jnp.maximum(total, _SMALL)) + scales
    return jnp.where(lengths >= 2, score, 0), total


@jax.custom_vjp
def log_likelihood(
    log_root: chex.Array,
    log_rules: chex.Array,
    log_emissions: chex.Array,
    lengths: chex.Array,
) -> chex.Array:
    """log P of each sentence, summed over all its trees.

    Args:
      log_root: [N]. Log-probabilities of the symbol at the root.
      log_rules: [N, N + T, N + T]. Log-probabilities of rules: parent, left child,
        right child, nonterminals first.
      log_emissions: [B, L, T]. Log-probabilities of every word from every
        preterminal; L is at least 2.
      lengths: [B] int. Words beyond a sentence's length change nothing.

    Returns:
      [B]. log P in nats, 0 for sentences of fewer than two words, which have no tree.
    """
    charts, _ = fill(log_rules, log_emissions)
    return _score(log_root, charts, lengths)[0]


def log_likelihoods_of_starts(
    log_root: chex.Array, log_rules: chex.Array, log_emissions: chex.Array
) -> chex.Array:
    """log P of the first n words of each sentence, n from 2 to L, as a sentence.

    Args:
      log_root: [N], as `log_likelihood` has it, and so the others.
      log_rules: [N, N + T, N + T].
      log_emissions: [B, L, T].

    Returns:
      [B, L - 1], in nats.
    """
    charts, _ = fill(log_rules, log_emissions)
    totals = jnp.einsum("bnw,n->bw", charts.by_first[:, 0], jnp.exp(log_root))
    scores = jnp.log(jnp.maximum(totals, _SMALL)) + charts.first_scales[:, 0]
    return scores[:, : log_emissions.shape[1] - 1]


def _forward(log_root, log_rules, log_emissions, lengths):
    charts, saved = fill(log_rules, log_emissions)
    score, total = _score(log_root, charts, lengths)
    return score, (log_root, log_rules, lengths, charts, saved, total)


class _Outside(NamedTuple):
    """What the outside pass has gathered.

    Attributes:
      by_first: [B, L, W, N]. Outside values of spans as left children.
      by_last: [B, L + padding, W, N]. The same as right children.
      at_left: [B, L, N, N]. Derivative for `Words.at_left`.
      at_right: [B, L + padding, N, N]. Derivative for `Words.at_right`.
      nn: [N N, N]. Weighted derivative for `Rules.nn`.
    """

    by_first: chex.Array
    by_last: chex.Array
    at_left: chex.Array
    at_right: chex.Array
    nn: chex.Array


def _outside_of_width(outside, root, lengths, length, width, inverse):
    """[B, n, N]. Derivatives of log P for a width's values before normalisation."""
    batch, num = inverse.shape
    shape = (batch, num, 1, root.shape[-1])
    of_span = (
        _get(outside.by_first, shape, 0, width - 2)
        + _get(outside.by_last, shape, width - 1, length - width)
    )[:, :, 0]
    is_whole = (lengths == width)[:, None]
    of_span = _add(of_span, jnp.where(is_whole, root, 0)[:, None], 0)
    return _clip(_clip(of_span * _TOP) * inverse[..., None])


def _backward(residual, cotangent):
    """The outside pass: derivatives for the logarithms of all probabilities."""
    log_root, log_rules, lengths, charts, (words, loops, inverse), total = residual
    batch, length, num_preterminals = words.vectors.shape
    size = log_root.shape[0]
    rules = _rules(log_rules)
    root = jnp.exp(log_root) / jnp.maximum(total, _SMALL)[:, None]
    weight = jnp.where(lengths >= 2, cotangent, 0)[:, None, None]
    # XLA would fold the transposition into the matrix products, which on a CPU
    # trebles their time.
    by_first = jax.lax.optimization_barrier(jnp.swapaxes(charts.by_first, 2, 3))
    outside = _Outside(
        jnp.zeros_like(by_first),
        jnp.zeros_like(charts.by_last),
        jnp.zeros_like(words.at_left),
        jnp.zeros_like(words.at_right),
        jnp.zeros_like(rules.nn),
    )

    def empty_width(outside, width, saved):
        weights, inverse = saved
        num, inner = inverse.shape[1], weights.shape[-1] - 2
        above = _outside_of_width(outside, root, lengths, length, width, inverse)
        after, before = _edges(charts, length, width, num, weights)
        row = above[:, :, None]
        at_right = _get(words.at_right, (batch, num, size, size), width - 1)
        to_after = _clip(row @ words.at_left[:, :num]) * weights[..., None, :1]
        to_before = _clip(row @ at_right) * weights[..., None, -1:]
        outside = _Outside(
            _add(outside.by_first, to_before, 0, width - 3),
            _add(outside.by_last, to_after, width - 1, length - width + 1),
            _add(outside.at_left, above[..., None] * after[..., None, :], 0),
            _add(outside.at_right, above[..., None] * before[..., None, :], width - 1),
            outside.nn,
        )
        if not inner:
            return outside
        left, right = _inner(charts, length, width, num, weights)
        pairs = _flat(left @ right)
        below = _clip(above @ rules.nn.T).reshape(batch, num, size, size)
        split = weights[..., 1:-1, None]
        to_left = jnp.einsum("bnuy,bnxy->bnux", right * split, below)
        to_right = (by_first[:, :num, :inner] * split) @ below
        return _Outside(
            _add(outside.by_first, to_left, 0, 0),
            _add(outside.by_last, to_right, width - 1, length - width + 2),
            outside.at_left,
            outside.at_right,
            outside.nn + jnp.einsum("bnk,bna->ka", pairs, above * weight),
        )

    for widths, loop in reversed(list(zip(_loops(length), loops, strict=True))):
        outside, _ = jax.lax.scan(
            lambda outside, inputs: (empty_width(outside, *inputs), None),
            outside,
            (jnp.array(widths, jnp.int32), loop),
            reverse=True,
        )
    above = _outside_of_width(outside, root, lengths, length, 2, inverse)
    left, right = words.vectors[:, :-1], words.vectors[:, 1:]
    below = _clip(above @ rules.tt.T).reshape(
        batch, length - 1, num_preterminals, num_preterminals
    )
    at_right = outside.at_right[:, :length]
    of_words = _clip(jnp.einsum("blac,tac->blt", outside.at_left, rules.tn))
    of_words += _clip(jnp.einsum("blac,tac->blt", at_right, rules.nt))
    of_words = _add(of_words, jnp.einsum("bnxy,bny->bnx", below, right), 0)
    of_words = _add(of_words, jnp.einsum("bnx,bnxy->bny", left, below), 1)
    weighted = words.vectors * weight
    of_rules = _join(
        Rules(
            outside.nn,
            jnp.einsum("blt,blac->tac", weighted, at_right),
            jnp.einsum("blt,blac->tac", weighted, outside.at_left),
            jnp.einsum("bnk,bna->ka", _pair(left, right), above * weight),
        )
    )
    of_rules = jnp.clip(of_rules, -_LARGE, _LARGE) * jnp.exp(log_rules + _LOG_RULE)
    vectors, _ = _whole(charts, lengths)
    of_root = (weight[..., 0] * root * vectors).sum(0)
    return of_root, of_rules, of_words * weighted, None


def _join(rules: Rules) -> chex.Array:
    """The [N, N + T, N + T] array of which these are the blocks."""
    num_preterminals, size, _ = rules.nt.shape
    left_nonterminal = jnp.concatenate(
        [rules.nn.T.reshape(size, size, size), rules.nt.transpose(1, 2, 0)], axis=2
    )
    tt = rules.tt.T.reshape(size, num_preterminals, num_preterminals)
    left_preterminal = jnp.concatenate([rules.tn.transpose(1, 0, 2), tt], axis=2)
    return jnp.concatenate([left_nonterminal, left_preterminal], axis=1)


log_likelihood.defvjp(_forward, _backward)
