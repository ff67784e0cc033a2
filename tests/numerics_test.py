"""Elementary functions against float64, the shuffle against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from lvm_jax import numerics


def test_log1mexp_matches_float64():
    log_p = -np.logspace(-29, 2.5, 2000)
    expected = np.log(-np.expm1(log_p))
    actual = jax.jit(numerics.log1mexp)(jnp.float32(log_p))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_log1mexp_derivative_matches_float64():
    log_p = np.concatenate([-np.logspace(-28, 2, 500), [-1000.0, -np.inf]])
    with np.errstate(over="ignore"):
        expected = -1 / np.expm1(-log_p)
    actual = jax.vmap(jax.grad(numerics.log1mexp))(jnp.float32(log_p))
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-7)


def test_log1mexp_of_certainty_is_finite():
    log1mexp = jax.jit(jax.value_and_grad(numerics.log1mexp))
    value, slope = log1mexp(jnp.float32(0.0))
    assert np.isclose(value, np.log(1e-30)) and np.isfinite(slope)


def test_log_sigmoid_matches_float64():
    logit = np.linspace(-80, 80, 5001)
    actual = jax.jit(numerics.log_sigmoid)(jnp.float32(logit))
    expected = special.log_expit(np.float64(jnp.float32(logit)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_log_sigmoid_of_infinite_logits():
    logit = np.float32([-np.inf, np.inf])
    log_sigmoid = jax.vmap(jax.value_and_grad(numerics.log_sigmoid))
    value, slope = jax.jit(log_sigmoid)(logit)
    np.testing.assert_array_equal(value, [-np.inf, 0.0])
    np.testing.assert_array_equal(slope, [1.0, 0.0])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 1000, 9000])
def test_permutation_is_one(size):
    order = numerics.permutation(jax.random.key(size), size)
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [6, 13, 50])
def test_permutation_is_uniform(size):
    num_draws = 4000
    keys = jax.random.split(jax.random.key(0), num_draws)
    orders = np.asarray(jax.vmap(lambda key: numerics.permutation(key, size))(keys))
    places = np.arange(size) * size + orders
    gaps = (orders[:, 1:] - orders[:, :-1]) % size - 1
    for counts, dof in (
        # Every place holds every index equally often: a doubly stochastic table.
        (np.bincount(places.ravel(), minlength=size**2), (size - 1) ** 2),
        # And so does every difference of neighbours.
        (np.bincount(gaps.ravel(), minlength=size - 1), size - 2),
    ):
        statistic = ((counts - counts.mean()) ** 2).sum() / counts.mean()
        # The neighbours of one draw are not independent: hence a generous bound.
        assert stats.chi2.sf(statistic / 1.5, dof) > 1e-4


def test_permutation_depends_on_its_key():
    one, other = (numerics.permutation(jax.random.key(k), 9000) for k in (0, 1))
    assert (np.asarray(one) == np.asarray(other)).mean() < 0.01


def test_permutation_refuses_sizes_out_of_range():
    with pytest.raises(ValueError, match="expected a size"):
        numerics.permutation(jax.random.key(0), 0)


@pytest.mark.parametrize("num_observed", [1, 31, 32, 33, 70])
def test_unpack_undoes_pack(num_observed):
    samples = np.random.default_rng(0).random((5, num_observed)) < 0.5
    np.testing.assert_array_equal(
        numerics.unpack_bits(numerics.pack_bits(samples), num_observed), samples
    )


def test_keys_are_jax_s_whatever_its_settings():
    expected = jax.random.key_data(jax.random.key(7, impl="threefry2x32"))
    with jax.default_prng_impl("rbg"), jax.enable_x64(True):
        key = numerics.key(7)
    np.testing.assert_array_equal(jax.random.key_data(key), expected)
    assert key.dtype == jax.random.key(7, impl="threefry2x32").dtype
    for seed in (-1, 2**32, 0.5):
        with pytest.raises(ValueError, match=f"from 0 to 4294967295, got {seed}"):
            numerics.key(seed)


def test_row_sums_are_sums_and_do_not_depend_on_what_stands_beside():
    rows = np.random.default_rng(0).normal(size=(50, 37)).astype(np.float32)
    sums = jax.jit(numerics.row_sums)
    np.testing.assert_allclose(sums(rows), rows.sum(-1, dtype=float), atol=1e-5)
    np.testing.assert_array_equal(sums(rows[:8]), sums(rows)[:8])


def test_split_holds_every_sample_once():
    samples = np.arange(40).reshape(20, 2)
    held_out, train = numerics.split(samples, 5)
    np.testing.assert_array_equal(held_out, samples[:5])
    np.testing.assert_array_equal(train, samples[5:])
    for seed in (0, 1):
        held_out, train = numerics.split(samples, 5, seed)
        assert len(held_out) == 5 and (held_out != samples[:5]).any()
        together = np.concatenate([held_out, train])
        np.testing.assert_array_equal(np.sort(together, axis=0), samples)
    assert len(numerics.split(np.zeros(20_000))[0]) == 1000
    assert len(numerics.split(np.zeros(300))[0]) == 30
    with pytest.raises(ValueError, match=r"fewer .* than the 20 there are, got 20"):
        numerics.split(samples, 20)
    with pytest.raises(ValueError, match="at least 1 held-out sample, got 0"):
        numerics.split(samples, 0)


def test_uniforms_are_each_jax_s_draw_from_its_key():
    key, shapes = jax.random.key(3), [(4,), (3, 5), (), (2, 2, 2)]
    low, high = np.array([-1.0, 2.0, 0.0, -3.0]), np.array([1.0, 4.0, 0.1, -2.0])
    found = jax.jit(lambda key: numerics.uniforms(key, shapes, low, high))(key)
    places = zip(jax.random.split(key, 4), shapes, low, high, strict=True)
    for numbers, (own, shape, *limits) in zip(found, places, strict=True):
        expected = jax.random.uniform(own, shape, jnp.float32, *limits)
        np.testing.assert_array_equal(numbers, expected)
    same = numerics.uniforms(key, shapes, -1.0, 1.0)
    np.testing.assert_array_equal(same[0], found[0])


def test_hashed_numbers_are_uniform_and_independent_along_every_axis():
    numbers = np.asarray(numerics.hashed_uniform(jax.random.key(0), (40, 50, 60)))
    assert numbers.dtype == np.float32
    assert (numbers >= 0).all() and (numbers < 1).all()
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    other = np.asarray(numerics.hashed_uniform(jax.random.key(1), (40, 50, 60)))
    pairs = [(numbers, other)]
    for axis in range(3):
        pairs.append((numbers, np.roll(numbers, 1, axis)))
    for one, two in pairs:
        correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(numbers.size)
    for bit in range(24):
        share = ((numbers * 2**24).astype(int) >> bit & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(numbers.size)


def test_hashed_numbers_do_not_depend_on_how_many_follow():
    key = jax.random.key(2)
    draw = jax.jit(numerics.hashed_uniform, static_argnums=1)
    wide = np.asarray(draw(key, (5, 6, 7)))
    np.testing.assert_array_equal(draw(key, (3, 4, 2)), wide[:3, :4, :2])
    draw_each = jax.jit(jax.vmap(lambda key: numerics.hashed_uniform(key, (4,))))
    batch = draw_each(jax.random.split(key, 3))
    assert len(np.unique(batch)) == batch.size


def test_floats_are_split_into_mantissas_and_exponents():
    numbers = np.float32([1, 1.5, 2, 3, 0.1, 1e-30, 1e30, 1.9999999, 0.99999994])
    mantissas, exponents = numerics.split_float(jnp.array(numbers))
    halves, ones = np.frexp(numbers)
    np.testing.assert_array_equal(mantissas, 2 * halves)
    np.testing.assert_array_equal(exponents, ones - 1)
    with jax.enable_x64(True):
        mantissas, exponents = numerics.split_float(jnp.array([1e-300, 6.0]))
        assert mantissas.dtype == jnp.float64
        np.testing.assert_array_equal(mantissas * 2.0**exponents, [1e-300, 6.0])
