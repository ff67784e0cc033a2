"""Latents that recur: of points on a line, whose clusters are plain to see."""

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import lvm_jax
from lvm_jax import noisy_or, pcfg, recovery, sparse_coding
from lvm_jax.recurrence import recurring, repeated
from lvm_jax.report.intervals import share_interval

_NEAR = 1.0  # points that match
_FAR = 1000.0


def _matches(points, others):
    """Of runs of points [R, K] in others, NaN where a latent does not survive."""
    points, others = np.asarray(points, float), np.asarray(others, float)
    matched = np.full((len(points), len(others), points.shape[1]), -1)
    for run, own in enumerate(points):
        for other, values in enumerate(others):
            gap = np.nan_to_num(abs(own[:, None] - values), nan=_FAR)
            cost = np.where(gap <= _NEAR, gap, _FAR)
            for latent, place in zip(*linear_sum_assignment(cost), strict=True):
                if cost[latent, place] <= _NEAR:
                    matched[run, other, latent] = place
    return matched


def _recurring(points, share=0.5, objective=None):
    objective = np.arange(len(points)) if objective is None else objective
    kept = ~np.isnan(np.asarray(points, float))
    matched = _matches(points, points)
    return recurring(matched, kept, np.asarray(objective, float), share)


def _repeated(points, others):
    found = _recurring(points), _recurring(others)
    return repeated(*found, _matches(points, others), _matches(others, points)).tolist()


def _values(points, consensus):
    """The sorted values of each recurring latent's members."""
    points = np.asarray(points, float)
    return [
        sorted(points[run, latent] for run, latent in enumerate(member) if latent >= 0)
        for member in consensus.member
    ]


def _draw(seed, num_runs=9, truths=(0.0, 10.0, 20.0), lost=0.2, num_false=2):
    """Runs that lose some truths and have latents of their own, in any order."""
    random = np.random.default_rng(seed)
    runs = []
    for run in range(num_runs):
        own = [truth + random.normal(0, 0.1) for truth in truths]
        own = [value if random.random() > lost else np.nan for value in own]
        false = 100.0 * (1 + run) + 10 * np.arange(num_false)
        runs.append(random.permutation([*own, *false, np.nan]))
    return np.array(runs)


@pytest.mark.parametrize("seed", range(5))
def test_what_most_runs_have_recurs_and_nothing_else(seed):
    points = _draw(seed)
    found = _recurring(points)
    assert (np.diff(found.share) <= 0).all()
    expected = {}
    for truth in (0.0, 10.0, 20.0):
        expected[truth] = sorted(points[abs(points - truth) < 2])
    of_truth = {round(np.mean(values), -1): values for values in _values(points, found)}
    assert of_truth == {
        truth: values for truth, values in expected.items() if len(values) - 1 >= 4
    }
    for member, medoid, *interval in zip(*found[:5], strict=True):
        assert member[medoid] >= 0
        assert tuple(interval) == share_interval((member >= 0).sum() - 1, 8)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_runs_and_of_latents_is_nothing_to_it(seed):
    points, random = _draw(seed), np.random.default_rng(seed)
    objective = random.permutation(len(points))
    runs = random.permutation(len(points))
    moved = random.permuted(points[runs], axis=1)
    one = _recurring(points, objective=objective)
    other = _recurring(moved, objective=objective[runs])
    of_one = zip(_values(points, one), one.medoid, one.share, strict=True)
    of_other = zip(_values(moved, other), runs[other.medoid], other.share, strict=True)
    assert sorted(of_one) == sorted(of_other)


def test_a_latent_between_two_others_joins_neither():
    """It is as near to one as to the other, and links what is apart with nothing."""
    runs = [[0.01 * run, 1.6 + 0.01 * run] for run in range(8)]
    runs = [*runs[:4], *([a - 0.1, b - 0.1] for a, b in runs[4:])]
    between = [np.nan, 0.8]
    found = _recurring([*runs, between])
    assert found.member[:, -1].tolist() == [-1, -1]
    assert [np.ptp(values) < 0.5 for values in _values([*runs, between], found)] == [
        True,
        True,
    ]
    alone = _recurring(runs)
    assert _values(runs, alone) == _values([*runs, between], found)


def test_neighbours_in_a_chain_are_not_one_latent():
    """Each is near to the next alone, and no two of them are had by most runs."""
    chain = [[0.9 * run] for run in range(9)]
    assert len(_recurring(chain).member) == 0


def test_what_is_taken_is_taken():
    """The last run's is near to six that stand with the first run's already."""
    points = [[0.0], *[[-0.9]] * 3, *[[0.9]] * 6, [1.8]]
    assert _recurring(points).member.tolist() == [[0] * 10 + [-1]]


def test_a_run_that_has_a_latent_twice_gives_one_of_them():
    points = [[0.0, 0.3, np.nan], [0.0, np.nan, np.nan], [0.01, 50.0, np.nan]]
    found = _recurring(points)
    assert _values(points, found) == [[0.0, 0.0, 0.01]]


def test_of_equals_the_run_with_the_best_objective_stands_for_them():
    points = [[0.0], [0.0], [0.0], [0.0]]
    found = _recurring(points, objective=[1, 3, 2, -np.inf])
    assert found.medoid.tolist() == [1] and found.share.tolist() == [1.0]


def test_a_share_of_the_others_is_asked_for():
    points = [[0.0, 5.0], [0.0, 5.0], [0.0, np.nan], [0.0, np.nan], [0.0, np.nan]]
    assert len(_recurring(points, share=0.25).member) == 2
    assert len(_recurring(points, share=0.3).member) == 1


def test_where_nothing_survives_nothing_recurs():
    found = _recurring(np.full((3, 4), np.nan))
    assert found.member.shape == (0, 3) and found.share.shape == (0,)


def test_what_recurs_at_another_level_is_found_there():
    """Of levels of different widths and numbers of runs, in any order."""
    few = [[10.0, 0.0], [0.1, 10.0], [0.0, 50.0]]
    many = [[40.0, 0.0, 20.0, 10.0], [10.1, 20.1, 40.1, 0.1]] * 2
    few_values, many_values = (
        _values(few, _recurring(few)),
        _values(many, _recurring(many)),
    )
    place = _repeated(few, many)
    assert len(place) == 2 and len(many_values) == 4
    for own, other in zip(few_values, place, strict=True):
        assert abs(own[0] - many_values[other][0]) < 1
    back = _repeated(many, few)
    assert sorted(back) == [-1, -1, 0, 1]
    assert [place[other] for other in back if other >= 0] == [
        own for own, other in enumerate(back) if other >= 0
    ]


def test_half_of_the_pairs_is_not_enough_to_be_the_same():
    """Its members at 0 are near to two of the other's four, those at 0.8 to four."""
    others = [[0.9], [0.9], [1.6], [1.6]]
    assert _repeated([[0.0], [0.0]], others) == [-1]
    assert _repeated([[0.0], [0.8]], others) == [0]


def test_one_latent_is_repeated_by_one_alone():
    """Two at a distance are both near to one between them, which is nearer to one."""
    assert _repeated([[0.0, 1.7]] * 3, [[0.9, 30.0]] * 3) == [-1, 0]


def test_nothing_recurs_in_nothing():
    nothing = np.full((3, 2), np.nan)
    assert _repeated(nothing, [[0.0], [0.0]]) == []
    assert _repeated([[0.0], [0.0]], nothing) == [-1]


def test_one_run_has_nothing_to_agree_with():
    with pytest.raises(ValueError, match="at least 2 runs to compare, got 1"):
        _recurring([[0.0]])


def test_a_duplicate_that_another_run_drops_takes_no_match():
    """It is the nearer of the two, and no survivor to match back."""
    failure = np.ones((2, 2, 16))
    failure[0, 0, :8] = 0.10
    failure[0, 1, 8:] = 0.5
    failure[1, 0, :8] = 0.12
    failure[1, 1, :8] = 0.10
    prior = np.array([[0.3, 0.2], [0.3, 0.05]])
    models = [
        noisy_or.from_probabilities(*of, np.full(16, 0.99))
        for of in zip(prior, failure, strict=True)
    ]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *models)
    runs = recovery.Runs(noisy_or.model.mask, params, np.ones((2, 2), np.float32))
    kept = recovery.survivors(runs, noisy_or.recover, None)
    assert np.asarray(kept).tolist() == [[True, True], [True, False]]
    matched = recovery.matches(runs, runs, kept, kept, noisy_or.recover, None)
    found = recurring(np.asarray(matched), np.asarray(kept), np.zeros(2), share=1.0)
    assert found.member.tolist() == [[0, 0]]


def test_columns_of_dictionaries_recur_in_any_order():
    """Three runs with the true columns, of which the last lacks the first six."""
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, num_samples=300)
    task = sparse_coding.task(dataset, num_held_out=200)
    random, truth = np.random.default_rng(0), np.asarray(dataset.truth.dictionary)
    orders = [random.permutation(24) for _ in range(3)]
    dictionaries = np.stack([truth[order] for order in orders])
    others = random.normal(size=(6, truth.shape[1]))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    dictionaries[2, orders[2] < 6] = others
    params = sparse_coding.SparseCoding(
        np.float32(dictionaries),
        np.full(3, sparse_coding.model.THRESHOLD),
        np.zeros(3),
    )
    learner = task.learner(sparse_coding.AlternatingMinimizationHyperparams())
    live = np.ones((3, 24), np.float32)
    runs = recovery.Runs(learner.model, params, live)
    kept = recovery.survivors(runs, task.recover, task.held_out)
    matched = recovery.matches(runs, runs, kept, kept, task.recover, task.held_out)
    found = recurring(np.asarray(matched), np.asarray(kept), np.arange(3.0))
    columns = [
        {int(orders[run][k]) for run, k in enumerate(member) if k >= 0}
        for member in found.member
    ]
    assert sorted(map(min, columns)) == list(range(24))
    assert all(len(of_one) == 1 for of_one in columns)
    assert (found.share == 1).sum() == 18 and (found.share == 0.5).sum() == 6
    assert (found.member[found.share < 1, 2] == -1).all()


def _permuted(grammar, nonterminals, preterminals):
    """The grammar with its symbols in another order."""
    symbols = np.concatenate([nonterminals, len(nonterminals) + preterminals])
    return pcfg.Pcfg(
        grammar.log_root[nonterminals],
        grammar.log_rules[nonterminals][:, symbols][:, :, symbols],
        grammar.log_emissions[preterminals],
    )


@pytest.mark.slow  # Compiles parses for each.
def test_nonterminals_of_grammars_recur_in_any_order():
    """Three runs with one grammar; those of its nonterminals that it uses recur."""
    grammar = pcfg.random_grammar(lvm_jax.key(3), 4, 5, 40, sharpness=4.0)
    sentences = np.asarray(pcfg.sample(lvm_jax.key(1), grammar, 60, max_words=12))
    task = pcfg.of_nonterminals(
        pcfg.task(lvm_jax.Dataset("made", sentences), num_held_out=40, num_words=40)
    )
    random = np.random.default_rng(0)
    orders = [(random.permutation(4), random.permutation(5)) for _ in range(3)]
    runs = [_permuted(grammar, *order) for order in orders]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
    live = pcfg.Live(np.ones((3, 4), np.float32), np.ones((3, 5), np.float32))
    compared = recovery.Runs(pcfg.normalise, params, live, task.kind)
    kept = recovery.survivors(compared, task.recover, task.held_out)
    matched = recovery.matches(
        compared, compared, kept, kept, task.recover, task.held_out
    )
    found = recurring(np.asarray(matched), np.asarray(kept), np.arange(3.0))
    symbols = [
        {int(orders[run][0][k]) for run, k in enumerate(member)}
        for member in found.member
    ]
    assert all(len(of_one) == 1 for of_one in symbols)
    live = jax.tree.map(lambda mask: mask[0], live)
    used = pcfg.recover_nonterminals(grammar, grammar, live, task.held_out)
    assert len(symbols) == int(used.kept.sum()) >= 3
