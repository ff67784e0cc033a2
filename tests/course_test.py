"""What is read from traced runs: ranks, permutations and contentions by hand."""

import numpy as np
from scipy import stats

from experiments import course


def test_ranks_go_from_the_nearest_to_the_farthest():
    relative = np.array([[0.2, 0.9, 0.5], [0.5, 0.5, 0.1]])
    np.testing.assert_allclose(course.ranks(relative), [[0, 1, 0.5], [0.75, 0.75, 0]])
    random = np.random.default_rng(0).integers(0, 5, (20, 4, 6))
    expected = (stats.rankdata(random, axis=-1) - 1) / 5
    np.testing.assert_allclose(course.ranks(random), expected)


def _rank(num_runs, seed=0):
    return course.ranks(np.random.default_rng(seed).random((num_runs, 8, 16)))


def test_a_permutation_test_finds_what_is_there_and_only_that():
    matched = np.stack(
        [np.random.default_rng(n).permutation(16)[:8] for n in range(30)]
    )
    own, p_value = course.permutation_test(_rank(30), matched, 999)
    assert len(own) == 30 * 8 and p_value > 0.05
    near = _rank(30)
    run, truth = np.indices(matched.shape)
    near[run, truth, matched] /= 2
    own, p_value = course.permutation_test(near, matched, 999)
    assert p_value == 1 / 1000
    np.testing.assert_allclose(own, near[run, truth, matched].ravel())


def test_truths_that_are_not_recovered_are_left_out():
    matched = np.full((3, 8), -1)
    matched[1, 4] = 7
    rank = _rank(3)
    own, _ = course.permutation_test(rank, matched, 99)
    np.testing.assert_allclose(own, rank[1, 4, 7])


def test_p_values_of_nothing_are_uniform():
    p_values = [
        course.permutation_test(
            _rank(4, seed),
            np.random.default_rng(seed).permuted(
                np.broadcast_to(np.arange(16), (4, 16)), axis=1
            )[:, :8],
            199,
        )[1]
        for seed in range(100, 200)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


_O, _A, _B, _C = [], [0], [1], [2]


def _contentions(sets, nearer=0):
    came = np.zeros((len(sets), 4), bool)
    for record, own in enumerate(sets):
        came[record, own] = True
    distance = np.full(came.shape, 0.5)
    distance[:, nearer] = 0.4
    return list(course.contentions(came, distance, 10.0 + np.arange(len(sets))))


def test_a_contention_is_of_two_and_ends_with_one():
    both = _A + _B
    (own,) = _contentions([_O, _A, both, both, _B], nearer=0)
    assert own == (12.0, 0, 0, 1)
    (own,) = _contentions([_O, both, _A], nearer=1)
    assert own == (11.0, 1, None, 0)


def test_a_contention_that_ends_otherwise_leaves_none():
    both = _A + _B
    for after in (_O, _C, both + _C):
        found = _contentions([_A, both, after])
        assert [own.left for own in found] == [None]
    (own,) = _contentions([_A, both])
    assert own.left is None
    assert not _contentions([_A, _A + _B + _C, _A])


def test_contentions_follow_one_another():
    both, other = _A + _B, _A + _C
    found = _contentions([_A, both, other, _C, both, _A])
    assert [(own.first, own.left) for own in found] == [(0, None), (None, 2), (None, 0)]
