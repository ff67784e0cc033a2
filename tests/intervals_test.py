"""Intervals against their definitions, scipy, published examples and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lvm_jax import report

pytestmark = pytest.mark.filterwarnings("error")

_TRUTHS = 0, 8
_Z = 1.959963984540054


def _bca(values, num_resamples):
    """Scipy's, at the level of Hesterberg's expanded percentiles.

    Of values whose sums are exact, so that equal means tie.
    """
    number = len(values)
    z = math.sqrt(number / (number - 1)) * stats.t.ppf(0.975, number - 1)
    interval = stats.bootstrap(
        (np.sort(values),),
        np.mean,
        confidence_level=stats.norm.cdf(z) - stats.norm.cdf(-z),
        method="BCa",
        n_resamples=num_resamples,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return np.mean(values), *interval


@pytest.mark.parametrize(("count", "total"), [(0, 16), (7, 16), (16, 16), (1, 3)])
def test_share_interval_is_wilsons(count, total):
    z, share = stats.norm.ppf(0.975), count / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = (
        z
        / (1 + z**2 / total)
        * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    )
    interval = report.share_interval(count, total)
    np.testing.assert_allclose(
        interval, (share, centre - half, centre + half), atol=1e-12
    )


def test_mean_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [report.mean_interval(random.normal(1.0, 2.0, 5)) for _ in range(2000)]
    covered = np.mean([low <= 1.0 <= high for _, low, high in intervals])
    assert abs(covered - 0.95) < 0.02


@pytest.mark.parametrize("number", [10, 32])
def test_intervals_of_counts_cover_their_mean_as_often_as_they_say(number):
    """Of ten counts BCa's own interval covers it 92 times in 100."""
    counts = np.random.default_rng(1).binomial(8, 0.9, (number, 2000))
    _, low, high = report.mean_intervals(counts, np.ones_like(counts, bool), _TRUTHS)
    covered = np.mean((low <= 7.2 + 1e-9) & (high >= 7.2 - 1e-9))
    assert abs(covered - 0.95) < 0.02


@pytest.mark.parametrize("number", [4, 10, 32, 64])
def test_intervals_within_limits_are_bca(number):
    random = np.random.default_rng(number)
    for values, limits in (
        (random.binomial(8, 0.9, number), _TRUTHS),
        (random.integers(0, 2**20, number) / 2**20, (0, 1)),
        (random.integers(-3, 4, number), (-8, 8)),
    ):
        interval = report.mean_interval(values, limits)
        np.testing.assert_allclose(interval, _bca(values, 9999), atol=1e-8)
        random.shuffle(values)
        np.testing.assert_allclose(
            report.mean_interval(values, limits), interval, rtol=1e-14
        )


def test_intervals_stay_within_limits():
    random = np.random.default_rng(4)
    for number, share in itertools.product((1, 2, 3, 4, 7, 33), (0.02, 0.5, 0.98)):
        counts = random.binomial(8, share, (number, 40))
        counted = np.ones_like(counts, bool)
        mean, low, high = report.mean_intervals(counts, counted, _TRUTHS)
        assert np.all((low >= 0) & (low <= mean) & (mean <= high) & (high <= 8))
        assert np.all(high - low > 0.1)


def test_two_or_three_values_have_students_cut_at_the_limits():
    for values in ([3, 8], [7, 8, 8]):
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert high > 8
        np.testing.assert_allclose(
            report.mean_interval(values, _TRUTHS), (np.mean(values), max(low, 0), 8)
        )


def test_mean_intervals_are_those_of_what_is_counted():
    random = np.random.default_rng(2)
    values, counted = random.normal(size=(6, 2, 5)), random.random((6, 2, 5)) < 0.6
    counted[:, 0, :2] = [[False, False]] * 5 + [[False, True]]
    values[~counted] = np.nan
    intervals = report.mean_intervals(values, counted)
    for place in itertools.product(range(2), range(5)):
        some = values[:, *place][counted[:, *place]]
        expected = report.mean_interval(some)
        np.testing.assert_allclose(intervals[:, *place], expected)
        if len(some) > 1:
            test = stats.ttest_1samp(some, 0).confidence_interval(0.95)
            np.testing.assert_allclose(expected, (some.mean(), *test))


def test_many_intervals_within_limits_are_bca_of_what_is_counted():
    """Of more of them than are resampled at a time, some of them alike."""
    random = np.random.default_rng(5)
    values, counted = (
        random.integers(0, 2**20, (12, 2, 1100)) / 2**20,
        np.ones((12, 2, 1100), bool),
    )
    values[:, 1] = values[::-1, 0]
    values[:, 0, 7] = 0.25
    counted[10:, 0], counted[5:, 1] = False, False
    values[~counted] = np.nan
    intervals = report.mean_intervals(values, counted, (0, 1))
    for kind, number, epoch in itertools.product((0, 1), (10, 5), (0, 600, 1099)):
        if number == (10, 5)[kind]:
            some = values[:number, kind, epoch]
            np.testing.assert_allclose(
                intervals[:, kind, epoch], _bca(some, 999), atol=1e-8
            )
    np.testing.assert_allclose(
        intervals[:, 0, 7], report.mean_interval([0.25] * 10, (0, 1))
    )


def test_difference_interval_is_welchs():
    """By the textbook's degrees of freedom (Welch and Satterthwaite)."""
    random = np.random.default_rng(1)
    values, others = random.normal(2, 1, 7), random.normal(1, 3, 12)
    parts = np.array([values.var(ddof=1) / 7, others.var(ddof=1) / 12])
    freedom = parts.sum() ** 2 / (parts**2 / [6, 11]).sum()
    half = stats.t.ppf(0.975, freedom) * math.sqrt(parts.sum())
    difference = values.mean() - others.mean()
    expected = difference, difference - half, difference + half
    np.testing.assert_allclose(report.difference_interval(values, others), expected)
    limits = -10, 10
    np.testing.assert_allclose(
        report.difference_interval(values, others, limits), expected
    )


def test_differences_are_within_those_that_limits_allow():
    estimate, low, high = report.difference_interval([8, 7], [0, 3], _TRUTHS)
    assert (estimate, high) == (6, 8) and -8 < low < 6
    assert report.difference_interval([8, 7], [0, 3]).high > 8


# Newcombe 1998, table II, method 10.
@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_share_difference_interval_is_newcombes(counts, low, high):
    interval = report.share_difference_interval(*counts)
    share, other = counts[0] / counts[1], counts[2] / counts[3]
    np.testing.assert_allclose(interval, (share - other, low, high), atol=5e-5)
    np.testing.assert_allclose(
        report.share_difference_interval(*counts[2:], *counts[:2]),
        (other - share, -high, -low),
        atol=5e-5,
    )


def test_paired_interval_is_students_of_the_differences():
    random = np.random.default_rng(3)
    others = random.normal(0, 10, 9)
    values = others + random.normal(1, 0.5, 9)
    test = stats.ttest_rel(values, others).confidence_interval(0.95)
    interval = report.paired_interval(values, others)
    np.testing.assert_allclose(interval, ((values - others).mean(), *test))
    welch = report.difference_interval(values, others)
    assert interval.high - interval.low < (welch.high - welch.low) / 5
    with pytest.raises(ValueError, match="expected pairs of values, got 9 and 8"):
        report.paired_interval(values, others[:8])


def test_paired_intervals_within_limits_are_bca_of_the_differences():
    random = np.random.default_rng(6)
    values, others = random.integers(0, 9, (2, 10))
    np.testing.assert_allclose(
        report.paired_interval(values, others, _TRUTHS),
        _bca(values - others, 9999),
        atol=1e-8,
    )


def test_intervals_of_too_few_values_have_no_bounds():
    nan = math.nan
    np.testing.assert_array_equal(report.mean_interval([3.0]), (3, nan, nan))
    for limits in (None, _TRUTHS):
        np.testing.assert_array_equal(report.mean_interval([], limits), (nan, nan, nan))
    np.testing.assert_array_equal(report.paired_interval([3], [1]), (2, nan, nan))
    np.testing.assert_array_equal(
        report.difference_interval([3.0], [1.0, 2.0]), (1.5, nan, nan)
    )
    np.testing.assert_array_equal(
        report.difference_interval([3.0, 1.0], []), (nan, nan, nan)
    )


def test_equal_values_without_limits_have_no_interval():
    nan = math.nan
    np.testing.assert_array_equal(report.mean_interval([2.0, 2.0]), (2, nan, nan))
    np.testing.assert_array_equal(
        report.paired_interval([2.0, 3.0], [1.0, 2.0]), (1, nan, nan)
    )
    for others in ([1.0, 1.0], [1.0, 2.0]):
        interval = report.difference_interval([2.0, 2.0], others)
        np.testing.assert_array_equal(interval[1:], (nan, nan))


@pytest.mark.parametrize("number", [1, 2, 16, 64])
def test_equal_values_within_limits_may_hide_a_share_of_others(number):
    """The share is 1.96² / (n + 1.96²), the upper end of Wilson's of 0 of n."""
    share = _Z**2 / (number + _Z**2)
    for value, low, high in ((8, 8 - 8 * share, 8), (5, 5 - 5 * share, 5 + 3 * share)):
        np.testing.assert_allclose(
            report.mean_interval([value] * number, _TRUTHS), (value, low, high)
        )
    for value in (0, 1):
        np.testing.assert_allclose(
            report.mean_interval([value] * number, (0, 1)),
            report.share_interval(value * number, number),
            atol=1e-12,
        )
    np.testing.assert_allclose(
        report.paired_interval([8] * number, [6] * number, _TRUTHS),
        (2, 2 - 10 * share, 2 + 6 * share),
    )
    np.testing.assert_allclose(
        report.difference_interval([1] * number, [0] * 7, (0, 1)),
        report.share_difference_interval(number, number, 0, 7),
    )


def test_of_equal_values_and_others_the_interval_is_of_both():
    """Zou and Donner 2008, equation 2: Welch's would take the equal ones as certain."""
    equal, others = [8] * 10, [5, 7, 6, 8, 2, 7, 7, 3, 6, 8]
    ours, theirs = (report.mean_interval(x, _TRUTHS) for x in (equal, others))
    above = math.sqrt((8 - 8) ** 2 + (5.9 - theirs.low) ** 2)
    below = math.sqrt((8 - ours.low) ** 2 + (theirs.high - 5.9) ** 2)
    np.testing.assert_allclose(
        report.difference_interval(equal, others, _TRUTHS),
        (2.1, 2.1 - below, 2.1 + above),
    )


@pytest.mark.parametrize("values", [[8.1, 2], [3, -1, 2, 4], [9] * 5])
def test_values_outside_their_limits_are_an_error(values):
    with pytest.raises(ValueError, match=r"expected values of 0 to 8, got (8\.1|-1|9)"):
        report.mean_interval(values, _TRUTHS)
    with pytest.raises(ValueError, match="expected values of 0 to 8"):
        report.difference_interval([1, 2, 3], values, _TRUTHS)


def test_limits_without_a_width_are_an_error():
    for limits in ((0, 0), (1, 0), (0, math.inf), (math.nan, 1)):
        with pytest.raises(ValueError, match="expected finite limits of some width"):
            report.mean_interval([0.0], limits)


def test_rounding_beyond_a_limit_is_none():
    interval = report.mean_interval([0.7, 0.8, 1 + 1e-7, 0.9], (0, 1))
    assert interval == report.mean_interval([0.7, 0.8, 1.0, 0.9], (0, 1))


def test_values_that_rounding_parts_are_equal():
    values = [0.3, 0.1 + 0.2, 0.3, 0.3, 0.3]
    assert values[0] != values[1]
    np.testing.assert_allclose(
        report.mean_interval(values, (0, 1)), report.mean_interval([0.3] * 5, (0, 1))
    )


def test_intervals_of_values_that_are_no_number_are_none():
    for values in ([0.5, math.nan], [math.nan] * 5, [0.1, 0.2, 0.3, math.nan, 0.4]):
        interval = report.mean_interval(values, (0, 1))
        assert all(map(math.isnan, interval))


def test_differences_of_the_largest_numbers_are_reported_without_a_warning():
    largest = [1.7e308, 1.7e308], [-1.7e308, -1.7e308]
    for interval in (report.paired_interval, report.difference_interval):
        assert interval(*largest).estimate == math.inf


def test_long_numbers_are_written_with_an_exponent():
    interval = report.Interval(-2.6e29, -math.inf, 123456789.0)
    assert interval.format(1) == "-2.6e+29 [-inf, 123456789.0]"
    assert interval.format(0, sign="+") == "-3e+29 [-inf, +123456789]"
