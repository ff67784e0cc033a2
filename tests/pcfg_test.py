"""Grammars against the study's values, enumeration and float64."""

import functools
import itertools

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from lvm_jax.pcfg import Live, Pcfg, data, parse, task
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.types import Dataset

_N, _T, _V = 3, 4, 7  # as in one of the study's files, to compile once
_MAX_WORDS = 7


def _logits(sharpness=1.0, seed=0, sizes=(_N, _T, _V), penalty=0.0):
    num, preterminals, vocabulary = sizes
    rng = np.random.default_rng(seed)
    size = num + preterminals
    rules = rng.normal(size=(num, size, size))
    rules[:, :num] -= penalty
    rules[:, :, :num] -= penalty
    arrays = rng.normal(size=num), rules, rng.normal(size=(preterminals, vocabulary))
    return Pcfg(*(np.float32(sharpness * array) for array in arrays))


_normalise = jax.jit(pcfg.normalise)


@jax.jit
def _pull(logits, counts, live=None):
    """The gradient of the logits for that of the grammar."""
    _, pull = jax.vjp(lambda logits: pcfg.normalise(logits, live), logits)
    return pull(counts)[0]


def _grammar(*args, **kwargs) -> Pcfg:
    return _normalise(_logits(*args, **kwargs))


def _sentences(lengths=(7, 2, 3, 4, 5, 6), seed=1):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, _V, (len(lengths), _MAX_WORDS)).astype(np.int32)
    return np.where(np.arange(_MAX_WORDS) < np.array(lengths)[:, None], words, pcfg.PAD)


@jax.jit
def _measure_weighted(grammar, sentences, weights):
    log_likelihood, pull = jax.vjp(lambda g: pcfg.log_likelihood(g, sentences), grammar)
    (counts,) = pull(weights)
    return log_likelihood, counts, parse.viterbi(grammar, sentences)


def _measure(grammar, sentences):
    """log P of each sentence, expected counts and Viterbi trees."""
    return _measure_weighted(grammar, sentences, np.ones(len(sentences), np.float32))


@functools.cache
def _shapes(first, last):
    """All binary trees over words first..last, as nested pairs of spans."""
    if first == last:
        return [first]
    return [
        (left, right)
        for split in range(first, last)
        for left, right in itertools.product(
            _shapes(first, split), _shapes(split + 1, last)
        )
    ]


def _score_shape(grammar, words, shape, combine):
    """Vector over nonterminals, or preterminals for a leaf, of one tree shape."""
    log_root, log_rules, log_emissions = grammar
    num = len(log_root)
    if isinstance(shape, int):
        return log_emissions[:, words[shape]], slice(num, None)
    (left, left_kind), (right, right_kind) = (
        _score_shape(grammar, words, child, combine) for child in shape
    )
    rules = log_rules[:, left_kind, right_kind]
    total = rules + left[:, None] + right
    return combine(total.reshape(num, -1), axis=1), slice(0, num)


def _by_shape(grammar, words, combine):
    """log P of every tree shape, its symbols summed or maximised over."""
    grammar = Pcfg(*(np.asarray(leaf, np.float64) for leaf in grammar))
    return [
        combine(grammar.log_root + _score_shape(grammar, words, shape, combine)[0])
        for shape in _shapes(0, len(words) - 1)
    ]


def _spans_of(shape):
    """The spans of a tree shape, and its first and last word."""
    if isinstance(shape, int):
        return set(), shape, shape
    (left, first, _), (right, _, last) = map(_spans_of, shape)
    return left | right | {(first, last)}, first, last


def _words(sentence):
    return sentence[sentence >= 0]


def test_log_likelihood_sums_over_all_trees():
    grammar, sentences = _grammar(), _sentences()
    expected = [
        logsumexp(_by_shape(grammar, _words(sentence), logsumexp))
        for sentence in sentences
    ]
    found, _, _ = _measure(grammar, sentences)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("sharpness", [1.0, 5.0])
def test_viterbi_is_the_best_of_all_trees(sharpness):
    grammar, sentences = _grammar(sharpness), _sentences()
    _, _, trees = _measure(grammar, sentences)
    for sentence, spans in zip(sentences, np.asarray(trees), strict=True):
        words = _words(sentence)
        scores = _by_shape(grammar, words, np.max)
        best, _, _ = _spans_of(_shapes(0, len(words) - 1)[np.argmax(scores)])
        found = spans[spans[:, 0] >= 0]
        assert {tuple(span) for span in found[:, :2].tolist()} == best
        assert len(found) == len(words) - 1
        np.testing.assert_allclose(
            _score_of(grammar, words, found), max(scores), rtol=1e-5
        )


def _score_of(grammar, words, spans):
    """log P of a sentence and one tree, its preterminals chosen for the best."""
    symbols = {(first, last): symbol for first, last, symbol in spans.tolist()}
    log_root, log_rules, log_emissions = (np.asarray(leaf) for leaf in grammar)

    def score(first, last):
        if first == last:
            return [
                (_N + preterminal, log_emissions[preterminal, words[first]])
                for preterminal in range(_T)
            ]
        (split,) = [
            k
            for k in range(first, last)
            if (k == first or (first, k) in symbols)
            and (k + 1 == last or (k + 1, last) in symbols)
        ]
        symbol = symbols[first, last]
        best = max(
            log_rules[symbol, left, right] + a + b
            for (left, a), (right, b) in itertools.product(
                score(first, split), score(split + 1, last)
            )
        )
        return [(symbol, best)]

    ((symbol, total),) = score(0, len(words) - 1)
    return log_root[symbol] + total


@pytest.mark.parametrize("name", ["pcfg_nt3_t4", "pcfg_nt10_t10"])
def test_the_study_s_values(golden, name):
    with np.load(golden / f"{name}.npz") as file:
        arrays = dict(file)
    grammar = Pcfg(*(arrays[field] for field in Pcfg._fields))
    num_sentences, num_words = arrays["sentences"].shape
    spare = (0, max(0, 6 - num_sentences)), (0, max(0, _MAX_WORDS - num_words))
    sentences = np.pad(arrays["sentences"], spare, constant_values=pcfg.PAD)
    found, counts, trees = _measure(grammar, sentences.astype(np.int32))
    np.testing.assert_allclose(
        found[:num_sentences], arrays["log_likelihood"], rtol=1e-5
    )
    for field, count in counts._asdict().items():
        expected = arrays[f"grad_sum_ll_{field}"]
        np.testing.assert_allclose(count, expected, rtol=1e-4, atol=1e-5)
    trees = np.asarray(trees)[:num_sentences, : num_words - 1]
    for tree, expected in zip(trees, arrays["viterbi_spans"], strict=True):
        assert sorted(tree.tolist()) == sorted(expected.tolist())


def test_expected_counts_are_finite_differences_and_add_up():
    sentences = _sentences((5, 2, 3, 4))[:, :5]
    with jax.enable_x64(True):
        grammar = _normalise(Pcfg(*map(np.float64, _logits())))
        measure = jax.jit(
            jax.value_and_grad(lambda g: pcfg.log_likelihood(g, sentences).sum())
        )
        _, counts = measure(grammar)
        rng = np.random.default_rng(2)
        for field, leaf in grammar._asdict().items():
            step, leaf = 1e-5 * rng.normal(size=leaf.shape), np.asarray(leaf)
            high, _ = measure(grammar._replace(**{field: leaf + step}))
            low, _ = measure(grammar._replace(**{field: leaf - step}))
            expected = float((np.asarray(getattr(counts, field)) * step).sum())
            np.testing.assert_allclose((high - low) / 2, expected, rtol=1e-6)
        lengths = (sentences >= 0).sum(1)
        np.testing.assert_allclose(counts.log_root.sum(), len(lengths))
        np.testing.assert_allclose(counts.log_rules.sum(), (lengths - 1).sum())
        np.testing.assert_allclose(counts.log_emissions.sum(), lengths.sum())


@pytest.mark.parametrize("sign", [1, -1])
def test_counts_that_are_expected_but_for_rounding_have_no_gradient(sign):
    rng = np.random.default_rng(0)
    logits = _logits(3.0, sizes=(20, 20, 1000))
    probs = [np.exp(np.asarray(x, np.float64)) for x in _normalise(logits)]

    def gradient(error):
        """Of counts that are off by that share, and what it should be."""
        counts = [
            sign * 5 * p * (1 + error * rng.choice([-1, 1], p.shape)) for p in probs
        ]
        found = map(np.asarray, _pull(logits, Pcfg(*map(np.float32, counts))))
        expected = [
            x - p * x.sum(axes, keepdims=True)
            for x, p, axes in zip(counts, probs, [-1, (1, 2), -1], strict=True)
        ]
        return zip(found, expected, strict=True)

    for found, _ in gradient(1e-7):
        np.testing.assert_array_equal(found, 0)
    for found, _ in gradient(1e-5):
        assert (found != 0).mean() > 0.9
    for found, expected in gradient(0.1):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_each_sentence_has_its_own_cotangent():
    grammar, sentences = _grammar(), _sentences()
    weights = np.array([2.0, 0.0, -1.0, 0.5, 0.0, 1.0], np.float32)
    _, weighted, _ = _measure_weighted(grammar, sentences, weights)
    alone = np.eye(6, dtype=bool)[..., None]
    each = [
        _measure(grammar, np.where(row, sentences, pcfg.PAD).astype(np.int32))[1]
        for row in alone
    ]
    expected = jax.tree.map(
        lambda *leaves: np.tensordot(weights, np.stack(leaves), 1), *each
    )
    for a, b in zip(weighted, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


_log_length_probs = jax.jit(pcfg.log_length_probs, static_argnums=1)


def test_short_sentences_have_the_mass_of_their_lengths():
    """Against a recursion on length alone, and against every sentence."""
    grammar = _grammar()
    root, rules = (np.exp(np.asarray(leaf, np.float64)) for leaf in grammar[:2])
    mass = {1: np.r_[np.zeros(_N), np.ones(_T)]}
    for n in range(2, _MAX_WORDS + 1):
        pairs = sum(np.outer(mass[k], mass[n - k]) for k in range(1, n))
        mass[n] = np.r_[np.einsum("abc,bc->a", rules, pairs), np.zeros(_T)]
    expected = [root @ mass[n][:_N] for n in range(2, _MAX_WORDS + 1)]
    found = np.exp(_log_length_probs(grammar, _MAX_WORDS))
    np.testing.assert_allclose(found, expected, rtol=3e-5)
    words = np.array(list(itertools.product(range(_V), repeat=4)), np.int32)
    log_likelihood = jax.jit(pcfg.log_likelihood)(grammar, words)
    np.testing.assert_allclose(np.exp(log_likelihood).sum(), expected[2], rtol=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 10.0, 30.0])
def test_float32_matches_float64_in_logarithms(sharpness):
    grammar, sentences = _grammar(sharpness), _sentences()
    expected = [_reference(grammar, _words(sentence)) for sentence in sentences]
    found, counts, _ = _measure(grammar, sentences)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in counts)
    np.testing.assert_allclose(counts.log_root.sum(), len(sentences), rtol=1e-5)
    num_words = (sentences >= 0).sum()
    np.testing.assert_allclose(counts.log_emissions.sum(), num_words, rtol=1e-4)


def _reference(grammar, words):
    """log P by the plain recursion on logarithms in float64."""
    log_root, log_rules, log_emissions = (np.asarray(g, np.float64) for g in grammar)
    chart = {}
    for i, word in enumerate(words):
        chart[i, i] = np.r_[np.full(_N, -np.inf), log_emissions[:, word]]
    for width in range(2, len(words) + 1):
        for i in range(len(words) - width + 1):
            j = i + width - 1
            pairs = [
                chart[i, k][:, None] + chart[k + 1, j] for k in range(i, i + width - 1)
            ]
            best = log_rules + np.logaddexp.reduce(pairs)
            value = np.logaddexp.reduce(best.reshape(_N, -1), axis=1)
            chart[i, j] = np.r_[value, np.full(_T, -np.inf)]
    return logsumexp(log_root + chart[0, len(words) - 1][:_N])


def test_padding_changes_nothing():
    grammar, sentences = _grammar(), _sentences((2, 3, 4, 1, 0, 2))
    wide, wide_counts, wide_trees = _measure(grammar, sentences)
    narrow, narrow_counts, narrow_trees = _measure(grammar, sentences[:, :4])
    np.testing.assert_allclose(wide, narrow, rtol=1e-6)
    for a, b in zip(wide_counts, narrow_counts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(wide_trees[:, :3], narrow_trees)
    assert (wide_trees[:, 3:] == pcfg.PAD).all()


def test_sentences_of_fewer_than_two_words_count_for_nothing():
    grammar = _grammar()
    sentences = _sentences((7, 3, 1, 0, 1, 0))
    assert pcfg.has_tree(sentences).tolist() == [True, True] + [False] * 4
    found, counts, trees = _measure(grammar, sentences)
    assert found[2:].tolist() == [0] * 4
    np.testing.assert_allclose(counts.log_root.sum(), 2, rtol=1e-6)
    np.testing.assert_allclose(counts.log_emissions.sum(), 10, rtol=1e-6)
    assert (trees[2:] == pcfg.PAD).all()
    no_tree = jax.jit(pcfg.log_likelihood)(grammar, sentences[2:, :1])
    assert no_tree.tolist() == [0] * 4


def test_dead_symbols_change_nothing():
    """A grammar inside a wider one, whose other symbols may be anything."""
    sentences = _sentences((2, 3, 4, 4, 3, 4))[:, :4]
    narrow = _logits(penalty=1.0)
    wide = _logits(10.0, seed=5, sizes=(_N + 2, _T + 1, _V))
    places = np.r_[:_N, _N + 2 : _N + 2 + _T]
    rules = np.array(wide.log_rules)
    rules[np.ix_(range(_N), places, places)] = narrow.log_rules
    wide = Pcfg(
        np.append(narrow.log_root, wide.log_root[_N:]),
        rules,
        np.concatenate([narrow.log_emissions, wide.log_emissions[_T:]]),
    )
    live = Live(np.array([1.0] * _N + [0.0] * 2), np.array([1.0] * _T + [0.0]))
    own, counts, trees = _measure(_normalise(narrow), sentences)
    padded = _normalise(wide, live)
    assert all(np.isfinite(leaf).all() for leaf in padded)
    other, wide_counts, wide_trees = _measure(padded, sentences)
    np.testing.assert_allclose(own, other, rtol=1e-6)
    np.testing.assert_array_equal(trees, wide_trees)

    def inner(tree):
        return Pcfg(
            tree.log_root[:_N],
            tree.log_rules[:_N][:, places][:, :, places],
            tree.log_emissions[:_T],
        )

    wide_counts = jax.tree.map(np.asarray, wide_counts)
    for a, b in zip(counts, inner(wide_counts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    gradient = jax.tree.map(np.asarray, _pull(wide, wide_counts, live))
    for leaf, live_part in zip(gradient, inner(gradient), strict=True):
        assert np.count_nonzero(leaf) == np.count_nonzero(live_part) > 0


@pytest.fixture(scope="module")
def proper():
    return _grammar(seed=3, penalty=1.0)


def test_samples_have_the_grammar_s_frequencies(proper):
    sentences = pcfg.sample(jax.random.key(0), proper, 20_000, max_words=4)
    assert sentences.shape == (20_000, 4) and sentences.dtype == np.int32
    lengths = (sentences >= 0).sum(1)
    probs = np.exp(_log_length_probs(proper, 4))
    np.testing.assert_allclose(
        np.bincount(lengths, minlength=5)[2:] / 20_000, probs / probs.sum(), atol=0.01
    )
    pairs = sentences[lengths == 2][:, :2]
    words = np.array(list(itertools.product(range(_V), repeat=2)), np.int32)
    expected = np.exp(jax.jit(pcfg.log_likelihood)(proper, words)) / probs[0]
    counts = np.bincount(pairs @ [_V, 1], minlength=_V**2)
    np.testing.assert_allclose(counts / len(pairs), expected, atol=0.015)
    longer = pcfg.sample(jax.random.key(0), proper, 50, min_words=3, max_words=4)
    assert set((longer >= 0).sum(1)) == {3, 4}


def test_samples_keep_left_and_right_apart():
    """A grammar of three sentences alone: b c, a b c and d a a."""
    rules = np.full((_N, _N + _T, _N + _T), pcfg.LOG_ZERO, np.float32)
    a, b, c, d = range(_N, _N + _T)
    rules[0, a, 1] = rules[0, b, c] = rules[0, 2, a] = np.log(1 / 3)
    rules[1, b, c] = rules[2, d, a] = 0.0
    root = np.array([0.0, pcfg.LOG_ZERO, pcfg.LOG_ZERO], np.float32)
    words = np.where(np.eye(_T, _V) > 0, 0, pcfg.LOG_ZERO).astype(np.float32)
    sentences = pcfg.sample(
        jax.random.key(0), Pcfg(root, rules, words), 600, max_words=4
    )
    found, counts = np.unique(sentences, axis=0, return_counts=True)
    assert found.tolist() == [[0, 1, 2, -1], [1, 2, -1, -1], [3, 0, 0, -1]]
    assert (counts > 150).all()


def test_offspring_radius_tells_proper_grammars(proper):
    # A single nonterminal; two nonterminal children count twice.
    log_rules = np.log([[[0.3, 0.1], [0.1, 0.5]]], dtype=np.float32)
    grammar = Pcfg(np.zeros(1), log_rules, np.zeros((1, 1)))
    np.testing.assert_allclose(pcfg.offspring_radius(grammar), 0.8, rtol=1e-6)
    assert pcfg.offspring_radius(proper) < 1
    log_rules = np.log([[[0.5, 0.1], [0.1, 0.3]]], dtype=np.float32)
    with pytest.raises(ValueError, match=r"radius .* below 1, got 1\.200"):
        pcfg.sample(
            jax.random.key(0), grammar._replace(log_rules=log_rules), 1, max_words=4
        )


def test_sampling_refuses_lengths_that_do_not_occur():
    short = _grammar(seed=3, penalty=10.0)
    with pytest.raises(ValueError, match="one in 1000 sentences of 4 to 4 words"):
        pcfg.sample(jax.random.key(0), short, 1, min_words=4, max_words=4)
    with pytest.raises(ValueError, match="got 5 to 4"):
        pcfg.sample(jax.random.key(0), short, 1, min_words=5, max_words=4)


def test_limits_of_length_that_make_no_sense_are_refused(proper):
    share = data.log_length_share(proper, 2, 6)
    assert -1 < share < 0
    with pytest.raises(ValueError, match=r"of at least 2 words, .* got 1 to 6"):
        data.log_length_share(proper, 1, 6)
    with pytest.raises(ValueError, match="at least 1 sentence, got 0"):
        data.from_truth("none", jax.random.key(0), proper, 0)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0, 1], r"mine: expected sentences \[N, L\] of whole numbers, got int64 of"),
        ([[0.0, 1.0]], "of whole numbers, got float64 of shape"),
        ([[0, 1], [0, 5]], "mine: expected words below 5, got 5"),
        ([[0, 1], [-1, 1]], r"-1 after the last one, got \[-1, 1\] in sentence 2"),
        ([[0, -7]], r"words from 0 on, .* got \[0, -7\] in sentence 1"),
    ],
)
def test_sentences_of_other_words_are_refused(samples, message):
    dataset = Dataset("mine", np.array(samples))
    with pytest.raises(ValueError, match=message):
        task(dataset, num_words=5, batch_size=1)


@pytest.mark.parametrize("name", ["num_parsed", "num_buckets"])
def test_counts_of_a_task_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} of at least 1, got 0"):
        task(Dataset("mine", np.zeros((9, 2), int)), **{name: 0})


def test_words_are_counted_alike_on_an_accelerator(monkeypatch):
    """Whose sum over the places of a word takes another way."""
    sentences, grammar = _sentences(), _grammar()
    weights = np.random.default_rng(0).normal(size=(*sentences.shape, _T))

    def count():
        def weighted(grammar):
            return (pcfg.word_log_probs(grammar, sentences) * weights).sum()

        return jax.jit(jax.grad(weighted))(grammar).log_emissions

    expected = np.zeros((_T, _V))
    np.add.at(expected.T, np.maximum(sentences, 0), weights)
    np.testing.assert_allclose(count(), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, default, **_: default(*args)
    )
    np.testing.assert_allclose(count(), expected, rtol=1e-4, atol=1e-5)
