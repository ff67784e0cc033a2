"""Matching and duplicates against scipy and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from lvm_jax import recovery


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
    matched = recovery.assign(cost, jnp.array([False, True]), 1.0)
    np.testing.assert_array_equal(matched, [-1, 1])


def test_assign_survives_nan_and_infinity():
    cost = jnp.array([[jnp.nan, 0.5], [jnp.inf, jnp.nan]])
    matched = recovery.assign(cost, jnp.array([True, True]), 1.0)
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
