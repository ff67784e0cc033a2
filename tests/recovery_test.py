"""Matching and duplicates against scipy and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from lvm_jax import recovery

_assign = jax.jit(recovery.assign)


@pytest.mark.parametrize("shape", [(8, 8), (8, 16), (8, 5), (3, 40)])
def test_assign_is_as_cheap_as_scipy(shape):
    random = np.random.default_rng(0)
    costs = random.uniform(0, 3, (50, *shape)).astype(np.float32)
    costs[random.random(costs.shape) < 0.4] = recovery.FORBIDDEN
    everything = np.ones(shape[1], bool)
    matched = jax.jit(jax.vmap(lambda c: recovery.assign(c, everything, 1.0)))(costs)
    for cost, pairs in zip(costs, np.asarray(matched), strict=True):
        rows, columns = optimize.linear_sum_assignment(cost)
        is_match = cost[rows, columns] <= 1.0
        expected = np.full(shape[0], -1)
        expected[rows[is_match]] = columns[is_match]
        np.testing.assert_array_equal(pairs, expected)


def test_assign_skips_what_is_not_allowed():
    cost = jnp.array([[0.1, 0.5], [0.2, 0.3]])
    matched = _assign(cost, jnp.array([False, True]), 1.0)
    np.testing.assert_array_equal(matched, [-1, 1])


def test_assign_survives_nan_and_infinity():
    cost = jnp.array([[jnp.nan, 0.5], [jnp.inf, jnp.nan]])
    matched = _assign(cost, jnp.array([True, True]), 1.0)
    np.testing.assert_array_equal(matched, [1, -1])


def test_find_duplicates_follows_falling_weight():
    random = np.random.default_rng(1)
    for _ in range(20):
        points = random.normal(size=(12, 2))
        distance = np.abs(points[:, None] - points).sum(-1)
        weight, alive = random.integers(0, 5, 12), random.random(12) < 0.7
        seen, expected = [], np.zeros(12, bool)
        for index in sorted(range(12), key=lambda i: (-weight[i], i)):
            if alive[index]:
                expected[index] = any(distance[index, j] <= 1.0 for j in seen)
                seen.append(index)
        actual = recovery.find_duplicates(distance, weight, alive, 1.0)
        np.testing.assert_array_equal(actual, expected)


def test_what_is_at_a_threshold_is_within_it():
    above = np.nextafter(np.float32(1), np.float32(2))
    everything = np.ones(2, bool)
    cost = jnp.array([[1, 5], [5, above]])
    np.testing.assert_array_equal(_assign(cost, everything, 1.0), [0, -1])
    for distance, is_copy in ((1, True), (above, False)):
        pair = jnp.array([[0, distance], [distance, 0]])
        found = recovery.find_duplicates(pair, np.array([2, 3]), everything, 1.0)
        np.testing.assert_array_equal(found, [is_copy, False])


def test_truths_match_with_and_without_what_the_filter_drops():
    """Latents that match are a padding one, an unused one, a copy and a good one."""
    cost = np.full((4, 7), 9.0, np.float32)
    cost[range(4), range(4)] = 0.5
    distance = np.full((7, 7), 5.0)
    distance[2, 4] = distance[4, 2] = 0.1  # The copy and the one that outranks it.
    distance[1, 5] = distance[5, 1] = 0.1  # One that is like an unused one.
    found = jax.jit(recovery.recover)(
        jnp.asarray(cost),
        live=jnp.array([0.0, 1, 1, 1, 1, 1, 0]),
        used=jnp.array([True, False, True, True, True, True, False]),
        distance=jnp.asarray(distance),
        weight=jnp.array([6.0, 5, 1, 3, 2, 1, 0]),
        match_threshold=1.0,
        duplicate_threshold=0.2,
    )
    assert found.matched.tolist() == [-1, 1, 2, 3] and found.num_recovered == 3
    assert np.flatnonzero(found.discarded).tolist() == [1]
    assert np.flatnonzero(found.duplicate).tolist() == [2]
    assert np.flatnonzero(found.kept).tolist() == [3, 4, 5] and found.num_kept == 3
    assert found.num_recovered_after_filter == 1
    assert found.scalars() == {
        "num_recovered": 3,
        "num_discarded": 1,
        "num_kept": 3,
        "num_recovered_after_filter": 1,
    }
