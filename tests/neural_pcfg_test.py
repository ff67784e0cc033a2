"""The neural parameterization, its learner and its data."""

import functools
import itertools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import neural_pcfg as experiment
from experiments import true_grammar
from lvm_jax.pcfg import (
    Live,
    MaximumLikelihoodHyperparams,
    Pcfg,
    Truth,
    corpus,
    data,
    maximum_likelihood,
    neural,
    parse,
    recovery,
)
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.sweep import Plan, Sweep
from lvm_jax.sweep.program import jitted
from lvm_jax.types import Buckets, Info, Learner, Task

_N, _T, _V, _DIMENSION = 3, 4, 11, 8
_SENTENCES = np.array([[0, 1, 2], [3, 10, -1], [5, -1, -1]], np.int32)


def _live(num, preterminals):
    return Live(
        jnp.asarray(np.arange(num) < _N, jnp.float32),
        jnp.asarray(np.arange(preterminals) < _T, jnp.float32),
    )


@functools.cache
def _learner():
    return maximum_likelihood(_V, dimension=_DIMENSION)


@functools.cache
def _after_two_steps(num, preterminals):
    """The initial and the last state, and what the second step has measured."""
    live = _live(num, preterminals)

    @jax.jit
    def train(key):
        state = _learner().init(key, live, _SENTENCES)

        def step(state, _):
            return _learner().step(key, state, live, _SENTENCES)

        end, infos = jax.lax.scan(step, state, length=2)
        return state, end, jax.tree.map(lambda leaf: leaf[-1], infos)

    return jax.device_get(train(jax.random.key(0)))


def _live_params(params, num, preterminals):
    symbols = np.r_[:_N, num : num + _T]
    return params | {
        "nonterminals": params["nonterminals"][:_N],
        "preterminals": params["preterminals"][:_T],
        "root_weight": params["root_weight"][:_N],
        "root_bias": params["root_bias"][:_N],
        "rule_weight": params["rule_weight"][np.ix_(symbols, symbols)],
        "rule_bias": params["rule_bias"][np.ix_(symbols, symbols)],
    }


def test_padding_changes_neither_draws_nor_steps():
    sizes = (_N + 2, _T + 1)
    start, end, info = _after_two_steps(_N, _T)
    padded_start, padded_end, padded_info = _after_two_steps(*sizes)
    inner = _live_params(padded_start.params, *sizes)
    for a, b in zip(jax.tree.leaves(start.params), jax.tree.leaves(inner), strict=True):
        np.testing.assert_array_equal(a, b)
    inner = _live_params(padded_end.params, *sizes)
    for a, b in zip(jax.tree.leaves(end.params), jax.tree.leaves(inner), strict=True):
        # Adam's first steps are as long where the gradient is all rounding.
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(info.objective, padded_info.objective, rtol=1e-5)
    dead = padded_start.params["nonterminals"][_N:]
    np.testing.assert_array_equal(dead, padded_end.params["nonterminals"][_N:])


def test_the_start_is_the_study_s():
    start, _, _ = _after_two_steps(_N, _T)
    for leaf in jax.tree.leaves(start.params):
        assert np.abs(leaf).max() <= 0.1 and leaf.std() > 0.03
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(start.params)])
    assert len(np.unique(flat)) > 0.99 * flat.size


def test_probabilities_sum_to_one_over_live_symbols():
    sizes = (_N + 2, _T + 1)
    start, _, _ = _after_two_steps(*sizes)
    grammar = jax.jit(neural.grammar_of)(start.params, _live(*sizes))
    np.testing.assert_allclose(np.exp(grammar.log_root).sum(), 1, rtol=1e-5)
    rows = np.exp(grammar.log_rules[:_N]).sum((1, 2))
    np.testing.assert_allclose(rows, 1, rtol=1e-5)
    assert np.exp(grammar.log_rules)[:, _N : _N + 2].sum() == 0
    assert np.exp(grammar.log_rules[_N:]).sum() == 0


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum())


def _perceptron(params, x):
    """A linear layer and two residual blocks, from plain matrix products."""

    def dense(layer, x):
        layer = params[f"Dense_{layer}"]
        return x @ np.float64(layer["kernel"]) + layer["bias"]

    x = dense(0, x)
    for first, second in ((1, 2), (3, 4)):
        hidden = np.maximum(dense(first, x), 0)
        x = x + np.maximum(dense(second, hidden), 0)
    return x


def test_the_networks_are_their_matrix_products():
    """Of parameters so large that every layer shows."""
    start, _, _ = _after_two_steps(_N, _T)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(0.5 * rng.normal(size=leaf.shape)), start.params
    )
    grammar = jax.jit(neural.grammar_of)(params, _live(_N, _T))
    hidden = _perceptron(params["root_network"], params["root"])[0]
    log_root = _log_softmax(params["root_weight"] @ hidden + params["root_bias"])
    np.testing.assert_allclose(grammar.log_root, log_root, rtol=1e-5)
    for embedding, log_rules in zip(
        params["nonterminals"], grammar.log_rules, strict=True
    ):
        logits = params["rule_weight"] @ np.float64(embedding) + params["rule_bias"]
        np.testing.assert_allclose(log_rules, _log_softmax(logits), rtol=1e-5)
    hidden = _perceptron(params["word_network"], params["preterminals"])
    logits = hidden @ params["words"]["kernel"] + params["words"]["bias"]
    for row, log_emissions in zip(logits, grammar.log_emissions, strict=True):
        np.testing.assert_allclose(log_emissions, _log_softmax(row), rtol=1e-5)


def test_gradients_are_those_of_the_mean_of_a_batch_and_clipped_to_a_norm():
    """Adam's first moment after one step is a tenth of the gradient."""
    live, (start, _, _) = _live(_N, _T), _after_two_steps(_N, _T)

    @jax.jit
    def gradient(max_norm):
        numbers = MaximumLikelihoodHyperparams(max_norm=max_norm)
        learner = maximum_likelihood(_V, numbers, dimension=_DIMENSION)
        end, _ = learner.step(None, start, live, _SENTENCES)
        return jax.tree.map(lambda leaf: 10 * leaf, end.optimizer[1][0].mu)

    def norm(tree):
        return np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))

    whole = jax.device_get(gradient(1e6))
    for share in (0.5, 2.0):
        clipped = gradient(share * norm(whole))
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(clipped), strict=True):
            np.testing.assert_allclose(min(share, 1) * a, b, rtol=1e-4, atol=1e-7)

    @jax.jit
    def mean(step):
        params = jax.tree.map(lambda x, g: x + step * g, start.params, whole)
        grammar = neural.grammar_of(params, live)
        return -pcfg.log_likelihood(grammar, _SENTENCES).mean()

    step = 0.01
    slope = (mean(step) - mean(-step)) / (2 * step)
    np.testing.assert_allclose(slope, norm(whole) ** 2, rtol=1e-2)


def test_steps_learn_and_leave_out_sentences_of_one_word():
    start, end, info = _after_two_steps(_N, _T)
    live = _live(_N, _T)
    held_out = _SENTENCES[:2], _SENTENCES[2:]
    evaluate = jax.jit(functools.partial(_learner().evaluate, None))
    before, after = (evaluate(state, live, held_out) for state in (start, end))
    assert after.objective > info.objective > before.objective
    grammar = jax.jit(neural.grammar_of)(start.params, live)
    total = jax.jit(pcfg.log_likelihood)(grammar, _SENTENCES[:2]).sum()
    np.testing.assert_allclose(before.objective, total / 5, rtol=1e-5)
    np.testing.assert_allclose(before.metrics["nll"], -before.objective)


def _distance_of_root(log_softmax, monkeypatch):
    """How far the root's network moves while the root is certain.

    One sentence a step, and compiled as outside of tests: it is the fused
    multiplications that round unevenly.
    """
    monkeypatch.setattr(pcfg, "_log_softmax", log_softmax)
    live = jax.tree.map(lambda mask: mask[None], _live(_N, _T))

    @functools.partial(
        jax.jit,
        compiler_options={
            "xla_backend_optimization_level": 3,
            "xla_llvm_disable_expensive_passes": False,
        },
    )
    @jax.vmap
    def train(key, live):
        start = _learner().init(key, live, _SENTENCES)
        start.params["root_bias"] = start.params["root_bias"].at[0].add(60)
        sentences = jax.random.randint(key, (200, 1, 3), 0, _V)
        end, _ = jax.lax.scan(
            lambda state, batch: _learner().step(None, state, live, batch),
            start,
            sentences,
        )
        return start.params, end.params

    start, end = jax.device_get(train(jax.random.key(0)[None], live))
    assert np.abs(end["words"]["kernel"] - start["words"]["kernel"]).max() > 0.01
    distances = jax.tree.map(lambda a, b: np.abs(a - b).max(), start, end)
    return max(jax.tree.leaves((distances["root_network"], distances["root_weight"])))


@pytest.mark.slow  # Compiled with all optimizations.
def test_the_network_of_a_certain_choice_stays_as_it_is(monkeypatch):
    """Adam would follow a gradient that is all rounding as any other."""
    assert _distance_of_root(pcfg._log_softmax, monkeypatch) == 0
    if _distance_of_root(jax.nn.log_softmax, monkeypatch) == 0:
        pytest.skip("nothing rounds unevenly on this machine")


class _Sum(NamedTuple):
    params: jax.Array
    shapes: jax.Array


class _Nothing(NamedTuple):
    """No hyperparameter."""


def _adder(hyperparams):
    """A learner that adds up its batches."""
    del hyperparams
    return Learner(
        init=lambda key, live, train: _Sum(jnp.zeros(()) * live.sum(), jnp.zeros(10)),
        step=lambda key, state, live, batch: (
            _Sum(
                state.params + batch.sum(),
                jnp.roll(state.shapes, 1).at[0].set(batch.shape[1]),
            ),
            Info(batch.sum(), {"sum": batch.sum()}),
        ),
        evaluate=lambda key, state, live, data: Info(
            state.params, {"sum": state.params}
        ),
        model=lambda params, live: params,
    )


def _count_samples(num_runs=2, batch_size=2):
    """The adder over two buckets of samples."""
    parts = np.arange(8.0).reshape(8, 1), 100 + np.arange(12.0).reshape(6, 2)
    plan = Plan(
        levels=(1,),
        seeds=range(num_runs),
        settings={"": _Nothing()},
        batch_size=batch_size,
        epochs_per_call=1,
    )
    task = Task(name="sum", learner=_adder, train=Buckets(parts), held_out=parts[0])
    return parts, Sweep(task, plan, devices=jax.devices()[:1])


def test_an_epoch_takes_every_bucket_once_in_one_order_for_all_runs():
    parts, sweep = _count_samples()
    (chunk,) = sweep.train(sweep.init(), 0, 1)
    state = chunk.runs[0].state
    np.testing.assert_allclose(state.params[:2], sum(part.sum() for part in parts))
    shapes = np.asarray(state.shapes)
    np.testing.assert_array_equal(shapes[0], shapes[1])
    assert sorted(shapes[0].tolist()) == [0] * 3 + [1] * 4 + [2] * 3


def test_a_step_computes_one_bucket():
    _, sweep = _count_samples()
    span = (jnp.int32(0), jnp.int32(1))
    lowered = jitted(sweep._program).chunk.lower(sweep._data, sweep.init(), span)
    assert "stablehlo.case" in lowered.as_text()
    with pytest.raises(ValueError, match="a batch of at most 6"):
        _count_samples(batch_size=7)


def _write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_corpus_is_cut_to_its_most_frequent_words(tmp_path):
    path = _write(tmp_path / "text", "b a b\na\nc b a\na b c d e\nb a <unk>\n")
    read = corpus.read_corpus(path, vocabulary=3, max_words=4)
    assert read.words == ("<unk>", "b", "a")
    assert read.sentences.tolist() == [[1, 2, 1, -1], [0, 1, 2, -1], [1, 2, 0, -1]]
    assert (read.num_one_word, read.num_outside) == (1, 1)


def test_lines_end_where_they_should_and_words_at_any_blank(tmp_path):
    """A byte order mark belongs to no word, and no other character ends a line."""
    blanks = "\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000\t "
    text = f"\ufeffa b\r\na{blanks}b\ra b\na{'b'.join(blanks)}a"
    read = corpus.read_corpus(_write(tmp_path / "text", text), vocabulary=5)
    assert read.words == ("<unk>", "b", "a")
    assert (read.sentences >= 0).sum(1).tolist() == [2, 2, 2, 2 + len(blanks) - 1]
    assert read.sentences[:, 0].tolist() == [2] * 4


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("", "utf-8", "which is empty"),
        ("\ufeff", "utf-8", "which is empty"),
        ("a b\n\nc d\n", "utf-8", "got none on line 2"),
        ("a b\rc é\n", "latin-1", "a corpus in UTF-8, got byte 0xe9 on line 2"),
        ("a b\n", "utf-16", "a corpus in UTF-8, got UTF-16 in"),
        ("a b\n", "utf-16-be", r"the control character '\\x00' on line 1"),
        ("a b\na b\0\n", "utf-8", r"the control character '\\x00' on line 2"),
        ("a\nb\n", "utf-8", "a sentence of 2 to 20 words, got none"),
    ],
)
def test_a_bad_corpus_is_refused(tmp_path, text, encoding, message):
    with pytest.raises(ValueError, match=message):
        corpus.read_corpus(_write(tmp_path / "text", text, encoding), vocabulary=5)


@pytest.mark.parametrize(("least", "most"), [(1, 20), (3, 2)])
def test_lengths_that_make_no_sense_are_refused_before_a_corpus_is_read(least, most):
    with pytest.raises(ValueError, match=f"at least 2 words.*got {least} to {most}"):
        corpus.read_corpus("nowhere", vocabulary=5, min_words=least, max_words=most)


@pytest.fixture(scope="module")
def sharp():
    return data.random_grammar(jax.random.key(0), 3, 4, 6, sharpness=5.0, radius=0.8)


def test_a_grammar_is_read_as_it_was_written(tmp_path, sharp):
    words = np.array(list("uvwxyz"))
    np.savez(tmp_path / "g.npz", words=words, **sharp._asdict())
    grammar, read = data.read_grammar(tmp_path / "g.npz")
    assert read == tuple("uvwxyz")
    for a, b in zip(grammar, sharp, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_root": np.zeros(3)}, "got 3 in row 0 of log_root"),
        ({"log_emissions": np.full((4, 6), np.nan)}, "got nan in row 0"),
        ({"log_rules": np.zeros((3, 6, 6))}, r"shape \(3, 7, 7\).* got \(3, 6, 6\)"),
        ({"log_root": np.zeros((3, 1))}, r"arrays \[N\]"),
        ({"words": np.array(["a"])}, r"expected 6 words .* of shape \(1,\)"),
        ({"log_root": np.array([None])}, "got Python objects"),
    ],
)
def test_a_bad_grammar_is_refused(tmp_path, sharp, change, message):
    np.savez(tmp_path / "g.npz", **(sharp._asdict() | change))
    with pytest.raises(ValueError, match=message):
        data.read_grammar(tmp_path / "g.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = _write(tmp_path / "g.npz", "no archive")
    with pytest.raises(ValueError, match="an archive of arrays"):
        data.read_grammar(path)


def test_a_random_grammar_ends_and_is_as_sharp_as_asked(sharp):
    assert 0.7 < pcfg.offspring_radius(sharp) <= 0.8
    flat = data.random_grammar(jax.random.key(0), 3, 4, 6, sharpness=0.0)
    np.testing.assert_allclose(np.exp(flat.log_emissions), 1 / 6, rtol=1e-5)
    assert np.exp(sharp.log_emissions).max(1).mean() > 0.7
    with pytest.raises(ValueError, match="below 1, got 1"):
        data.random_grammar(jax.random.key(0), 3, 4, 6, sharpness=1.0, radius=1.0)


def test_buckets_pad_little_and_hold_everything():
    lengths = np.array([2] * 50 + [3] * 50 + [9] * 3 + [10] * 20)
    bounds = corpus.bucket_lengths(lengths, 2)
    assert bounds == [3, 10]
    assert corpus.bucket_lengths(lengths, 3) == [2, 3, 10]
    assert corpus.bucket_lengths(lengths, 9, min_size=60) == [10]
    with pytest.raises(ValueError, match="at least 200 sentences, a batch, got 123"):
        corpus.bucket_lengths(lengths, 2, min_size=200)
    sentences = np.where(np.arange(10) < lengths[:, None], 1, pcfg.PAD)
    parts = corpus.to_buckets(sentences, bounds)
    assert [part.shape for part in parts] == [(100, 3), (23, 10)]
    assert sum((part >= 0).sum() for part in parts) == lengths.sum()


def test_branching_trees_share_only_the_whole_sentence():
    sentences = np.array([[1, 2, 3, 4], [1, 2, 3, -1], [1, -1, -1, -1]], np.int32)
    left, right = (
        np.asarray(parse.branching(sentences, left=is_left))
        for is_left in (True, False)
    )
    assert left[0, :, :2].tolist() == [[0, 3], [0, 2], [0, 1]]
    assert right[1, :, :2].tolist() == [[0, 2], [1, 2], [-1, -1]]
    count_spans = jax.jit(recovery.count_spans, static_argnums=(2, 3))
    counts = count_spans(left, right, 1, 1)
    assert (counts.total, counts.shared, counts.num_sentences) == (5, 2, 2)
    np.testing.assert_allclose([counts.f1(), counts.f1_inner()], [0.4, 0.0])
    shared = [
        count_spans(left[row : row + 1], right[row : row + 1], 1, 1).shared
        for row in range(3)
    ]
    assert shared == [1, 1, 0]
    assert count_spans(left, left, 1, 1).f1_inner() == 1


_recover = jax.jit(recovery.recover)


@pytest.mark.slow  # Compiles for long.
def test_a_grammar_recovers_itself_whatever_the_order_of_its_symbols(sharp):
    sentences = pcfg.sample(jax.random.key(0), sharp, 64, max_words=3)
    sharp = jax.tree.map(np.asarray, sharp)
    nonterminals, preterminals = np.array([2, 0, 1]), np.array([1, 3, 0, 2])
    symbols = np.r_[nonterminals, 3 + preterminals]
    shuffled = Pcfg(
        sharp.log_root[nonterminals],
        sharp.log_rules[nonterminals][:, symbols][:, :, symbols],
        sharp.log_emissions[preterminals],
    )
    true = jax.jit(parse.viterbi)(sharp, sentences)
    truth = Truth(sharp, (sentences,), (true,))
    live = Live(jnp.ones(3), jnp.ones(4))
    found = _recover(truth, shuffled, live)
    _, usage = jax.jit(recovery.compare)(truth, shuffled)
    np.testing.assert_allclose(np.sum(usage), 1, rtol=1e-5)
    assert found.matched.tolist() == np.argsort(preterminals).tolist()
    used = np.unique(np.asarray(true)[..., 2])
    assert found.measures["num_nonterminals_recovered"] == (used >= 0).sum()
    assert found.measures["f1"] == found.measures["f1_inner"] == 1
    dead = Live(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0, 0.0]))
    fewer = _recover(truth, shuffled, dead)
    assert fewer.num_recovered == 1
    assert fewer.measures["num_nonterminals_recovered"] <= 1
    with pytest.raises(ValueError, match="sentences whose trees are compared, got no"):
        recovery.recover(sharp, shuffled)
    parsed = _recover(sharp, shuffled, None, (sentences,))
    for a, b in zip(jax.tree.leaves(parsed), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a, b)


def _of_pairs(rules, emissions):
    """A grammar, in the shapes of the sharp one, of sentences of two words.

    Args:
      rules: [3, 4, 4] probabilities of pairs of preterminals.
      emissions: [4, 6] probabilities.
    """
    log_rules = np.full((3, 7, 7), pcfg.LOG_ZERO, np.float32)
    log_rules[:, 3:, 3:] = _log(rules)
    return Pcfg(np.full(3, -np.log(3), np.float32), log_rules, _log(emissions))


def _log(probs):
    logs = np.log(np.maximum(probs, 1e-30))
    return np.where(np.asarray(probs) > 0, logs, pcfg.LOG_ZERO).astype(np.float32)


def _recovered(truth, model, words, labels):
    """What sentences of a word twice, with labels of the truth's, tell of a model."""
    sentences = np.full((64, 3), pcfg.PAD, np.int32)
    sentences[:, :2] = np.asarray(words)[:, None]
    spans = np.full((64, 2, 3), pcfg.PAD, np.int32)
    spans[: len(labels), 0] = [[0, 1, label] for label in labels]
    live = Live(jnp.ones(3), jnp.ones(4))
    return _recover(Truth(truth, (sentences,), (spans,)), model, live)


@pytest.mark.parametrize("is_seldom_learned", [False, True])
@pytest.mark.parametrize(("num_others", "is_recovered"), [(31, True), (33, False)])
def test_a_nonterminal_is_recovered_by_half_of_f1(
    num_others, is_recovered, is_seldom_learned
):
    """Of a word's own nonterminal: 16 spans are shared, and others only learned, which
    precision would see, or only true, which recall would.
    """
    model = _of_pairs(np.eye(4)[:3, :, None] * np.eye(4)[:3, None], np.eye(4, 6))
    if is_seldom_learned:
        words, labels = [0] * 16 + [1, 2] * 24, [0] * (16 + num_others)
    else:
        num_learned = 16 + num_others
        words, labels = [0] * num_learned + [1] * (64 - num_learned), [0] * 16
    found = _recovered(model, model, words, labels)
    assert found.measures["num_nonterminals_recovered"] == is_recovered


# Half of what a preterminal emits is the same word, and half is its own.
_EMISSIONS = np.concatenate([np.full((4, 1), 0.5), 0.5 * np.eye(4, 5)], axis=1)


def _used(weights, emissions=_EMISSIONS):
    """A grammar whose preterminals emit a common word in these shares."""
    return _of_pairs(np.tile(np.outer(weights, weights), (3, 1, 1)), emissions)


@pytest.mark.parametrize(("share", "is_used"), [(0.00105, True), (0.00095, False)])
def test_a_preterminal_of_a_thousandth_of_all_words_is_used(share, is_used):
    model = _used([0.6 - share, share, 0.2, 0.2])
    found = _recovered(model, model, [0] * 64, [0])
    assert found.discarded.tolist() == [False, not is_used, False, False]
    assert (found.num_recovered, found.num_kept) == (4, 3 + is_used)


@pytest.mark.parametrize(("distance", "is_near"), [(0.099, True), (0.101, False)])
def test_preterminals_match_and_repeat_within_a_tenth_of_total_variation(
    distance, is_near
):
    other = _EMISSIONS.copy()
    other[0, [1, 5]] = 0.5 - distance, distance
    truth, words = _used([0.25] * 4), ([0] * 64, [0])
    found = _recovered(truth, _used([0.25] * 4, other), *words)
    assert found.matched.tolist() == [0 if is_near else -1, 1, 2, 3]
    other[1] = _EMISSIONS[0]
    for weights in ([0.2, 0.4, 0.2, 0.2], [0.4, 0.2, 0.2, 0.2]):
        found = _recovered(truth, _used(weights, other), *words)
        rarer = np.array([weights[0] < weights[1], weights[0] > weights[1], 0, 0])
        assert found.duplicate.tolist() == (is_near & (rarer > 0)).tolist()


def test_the_truth_s_nll_is_of_probabilities_given_the_lengths(sharp, monkeypatch):
    """Against the sum of the probabilities of all sentences of two or three words."""
    for name, value in {"_MIN_WORDS": 2, "_MAX_WORDS": 3}.items():
        monkeypatch.setattr(experiment, name, types.SimpleNamespace(value=value))
    monkeypatch.setattr(experiment, "_DATA", types.SimpleNamespace(seed=0))
    nothing = types.SimpleNamespace(
        init=lambda *_: _Sum(jnp.zeros(()), jnp.zeros(())), model=lambda *_: sharp
    )
    monkeypatch.setattr(experiment.pcfg, "maximum_likelihood", lambda _: nothing)
    monkeypatch.setattr(experiment, "_print_f1", lambda *_: None)
    sentences = np.array(list(itertools.product(range(-1, 6), repeat=3)), np.int32)
    sentences = sentences[(sentences[:, :2] >= 0).all(1)]
    log_probs = np.float64(jax.jit(pcfg.log_likelihood)(sharp, sentences))
    log_share = np.log(np.exp(log_probs).sum())
    assert log_share < -0.1
    test = Truth(sharp, (sentences[::5],), (np.zeros((51, 2, 3)),))
    truth = true_grammar.Truth("random", sharp, tuple("uvwxyz"), None)
    total = (log_probs[::5] - log_share).sum()
    expected = -total / (sentences[::5] >= 0).sum()
    found = experiment._print_truth(truth, test)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_english_grammar_is_small_proper_and_english():
    grammar, words = data.read_grammar(data.ENGLISH)
    assert [leaf.shape for leaf in grammar] == [(10,), (10, 20, 20), (10, 1000)]
    assert data.ENGLISH.stat().st_size < 200_000
    assert words[0] == corpus.UNKNOWN and {"the", "of", "she"} < set(words)
    assert 0.95 < np.exp(data.log_length_share(grammar, 2, 20)) <= 1
