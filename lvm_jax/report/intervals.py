"""Intervals of 95%: of means, shares, and their differences; knows no rows.

A mean of values within limits, such as a count of truths or an F1, has an interval
within them; other means have Student's.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Limits = tuple[float, float]

_CONFIDENCE = 0.95
_LONG = 1e12  # what is written with an exponent from here on
_NUM_RESAMPLES = 9999
_FEWER_RESAMPLES = 999  # of many means at once, such as those of all epochs
_NUM_INDICES = 2**20  # of resamples at a time
_NUM_MEANS = 2**21  # resampled at a time
_LEAST_RESAMPLED = 4  # of fewer values one resample in 27 or more is all the same one
_PRECISION = 32  # bits of resampled values
_DIFFERENCE_PRECISION = 44  # bits that a difference has of what it is of
_ROUNDING = 1e-6  # by which values may leave their limits, of these


class Interval(NamedTuple):
    """An estimate and its 95% interval, nan where there is none."""

    estimate: float
    low: float
    high: float

    def format(self, digits: int, scale: float = 1.0, sign: str = "") -> str:
        """The estimate with the interval in brackets; with sign "+", signed."""
        value, low, high = (
            f"{number:{sign}.{digits}{'f' if abs(number) < _LONG else 'e'}}"
            for number in (scale * number for number in self)
        )
        return f"{value} [{low}, {high}]"


def is_constant(values: Sequence[float]) -> bool:
    """Whether there are values and all are equal."""
    return len(values) > 0 and all(value == values[0] for value in values)


def mean_interval(values: Sequence[float], limits: Limits | None = None) -> Interval:
    """A mean with an interval that stays within the limits of its values.

    - Without limits Student's t; no interval of values that are all equal, or one.
    - With limits (a, b) the bootstrap's BCa interval (Efron 1987, Better Bootstrap
      Confidence Intervals, section 3), of 9999 resamples that are the same ones
      whenever it is called. Its level is that of Hesterberg's expanded percentiles
      (2015, What Teachers Should Know About the Bootstrap, section 4), for of ten
      values BCa's own interval covers the mean nine times in ten.
    - Of two or three values within limits Student's t, cut at the limits: no resample
      of so few is rare enough.
    - Of n values within limits that all equal c, [c - (c - a) p, c + (b - c) p]. A
      share p of runs could have other values and none of n be seen to: p is the
      upper end of Wilson's interval of 0 of n. Where the values are zeros and ones
      that is `share_interval`.

    Args:
      values: [R], of which the mean is taken; nan if there are none.
      limits: the least and the largest value possible, if there are such.

    Raises:
      ValueError: if limits are not finite or of no width, or values are outside.
    """
    values = np.asarray(values, float).reshape(-1, 1)
    low_high = _means(values, limits, _NUM_RESAMPLES)
    return Interval(*low_high[:, 0].tolist())


def mean_intervals(
    values: np.ndarray, counted: np.ndarray, limits: Limits | None = None
) -> np.ndarray:
    """Means over the first axis with the intervals of `mean_interval`.

    They are of 999 resamples, which all means of as many values share.

    Args:
      values: [R, ...].
      counted: [R, ...] bool, which of the values are averaged.
      limits: the least and the largest value possible, if there are such.

    Returns:
      [3, ...]: the mean, low and high, each nan where there is none.

    Raises:
      ValueError: if limits are not finite or of no width, or values are outside.
    """
    values = np.asarray(values, float)
    shape, columns = values.shape[1:], values.reshape(len(values), -1)
    patterns, which = np.unique(
        np.asarray(counted, bool).reshape(columns.shape), axis=1, return_inverse=True
    )
    intervals = np.empty((3, columns.shape[1]))
    for number, pattern in enumerate(patterns.T):
        of_pattern = which.reshape(-1) == number
        some = columns[np.ix_(pattern, of_pattern)]
        intervals[:, of_pattern] = _means(some, limits, _FEWER_RESAMPLES)
    return intervals.reshape(3, *shape)


def _means(values: np.ndarray, limits: Limits | None, num_resamples: int) -> np.ndarray:
    """Means of columns [R, C] with their intervals, [3, C]."""
    number = len(values)
    if number == 0:
        return np.full((3, values.shape[1]), math.nan)
    if limits is not None:
        values = _within(values, limits)
    with np.errstate(all="ignore"):  # of infinite values, and the largest
        mean = np.mean(values, axis=0)
        intervals = np.stack([mean, *_student(values, mean)])
    if limits is None:
        return intervals
    low, high = limits
    unit = 2.0 ** (math.ceil(math.log2(high - low)) - _PRECISION)
    units = np.rint((values - low) / unit)  # whole: sums are exact, equal means tie
    is_equal = np.all(units == units[0], axis=0)
    intervals[1:] = np.clip(intervals[1:], low, high)
    intervals[1:, is_equal] = _of_equal(values[0, is_equal], number, limits)
    if number >= _LEAST_RESAMPLED:
        resampled = ~is_equal & np.isfinite(mean)
        ends = _bootstrap(units[:, resampled], num_resamples)
        intervals[1:, resampled] = low + unit * ends
    return intervals


def _within(values: np.ndarray, limits: Limits) -> np.ndarray:
    """Values without the rounding by which they leave their limits.

    Raises:
      ValueError: if there are no such limits, or more than rounding is outside.
    """
    low, high = limits
    if not 0 < high - low < math.inf:
        raise ValueError(f"expected finite limits of some width, got {low} to {high}")
    slack = _ROUNDING * (high - low)
    outside = values[(values < low - slack) | (values > high + slack)]
    if outside.size:
        raise ValueError(f"expected values of {low} to {high}, got {outside[0]}")
    return np.clip(values, low, high)


def _student(values: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    number = len(values)
    error = np.sqrt(np.sum((values - mean) ** 2, axis=0) / (number - 1) / number)
    half = stats.t.ppf((1 + _CONFIDENCE) / 2, number - 1) * error
    half = np.where(np.all(values == values[0], axis=0), math.nan, half)
    return mean - half, mean + half


def _of_equal(values: np.ndarray, number: int, limits: Limits) -> list[np.ndarray]:
    """Intervals of means of which each value has been seen `number` times alone."""
    unseen = share_interval(0, number).high
    low, high = limits
    return [values - (values - low) * unseen, values + (high - values) * unseen]


def _bootstrap(values: np.ndarray, num_resamples: int) -> np.ndarray:
    """BCa intervals [2, C] of the means of columns [R, C], none of them constant.

    Columns with the same values in whatever order have the same interval.
    """
    number = len(values)
    columns, which = np.unique(np.sort(values, axis=0), axis=1, return_inverse=True)
    expanded = math.sqrt(number / (number - 1)) * stats.t.ppf(
        (1 - _CONFIDENCE) / 2, number - 1
    )
    size = _NUM_MEANS // num_resamples
    parts = [np.empty((2, 0))]
    for start in range(0, columns.shape[1], size):
        part = columns[:, start : start + size].T
        result = stats.bootstrap(
            (np.arange(number),),
            lambda places, axis, part=part: _resampled_means(part, places),
            confidence_level=1 - 2 * stats.norm.cdf(expanded),
            method="BCa",
            n_resamples=num_resamples,
            batch=max(_NUM_INDICES // number, 1),
            vectorized=True,
            rng=np.random.default_rng(0),
        )
        parts.append(np.stack(result.confidence_interval))
    return np.concatenate(parts, axis=1)[:, which.reshape(-1)]


def _resampled_means(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Means [C, ...] of values [C, R] at places [..., n] of the R.

    Each sum is that of values times how often they are drawn.
    """
    *shape, size = places.shape
    number = values.shape[1]
    samples = places.reshape(-1, size)
    starts = number * np.arange(len(samples))[:, None]
    drawn = np.bincount((samples + starts).flat, minlength=number * len(samples))
    return values @ np.moveaxis(drawn.reshape(*shape, number), -1, 0) / size


def share_interval(count: int, total: int) -> Interval:
    """A share with Wilson's score interval.

    Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if total == 0:
        return Interval(math.nan, math.nan, math.nan)
    result = stats.binomtest(count, total)
    low, high = result.proportion_ci(_CONFIDENCE, method="wilson")
    return Interval(count / total, float(low), float(high))


def share_difference_interval(
    count: int, total: int, other_count: int, other_total: int
) -> Interval:
    """How much larger the first share is, with Newcombe's hybrid score interval.

    Newcombe 1998, Interval Estimation for the Difference Between Independent
    Proportions, method 10.
    """
    return _hybrid(
        share_interval(count, total), share_interval(other_count, other_total)
    )


def _hybrid(interval: Interval, other: Interval) -> Interval:
    """A difference with an interval from those of two independent estimates.

    Newcombe's of two shares, for any two intervals by Zou and Donner 2008,
    Construction of Confidence Limits About Effect Measures, equation 2.
    """
    difference = interval.estimate - other.estimate
    below = interval.estimate - interval.low, other.high - other.estimate
    above = interval.high - interval.estimate, other.estimate - other.low
    return Interval(
        difference, difference - math.hypot(*below), difference + math.hypot(*above)
    )


def difference_interval(
    values: Sequence[float], others: Sequence[float], limits: Limits | None = None
) -> Interval:
    """How much larger the mean of `values` is, with Welch's interval.

    Welch 1947, The Generalization of Student's Problem when Several Different
    Population Variances are Involved; cut at the largest difference that limits allow.
    Where all of the ones or of the others are equal, or there is but one, it is made
    of both means' intervals (Zou and Donner 2008): none without limits.

    Args:
      values: [R].
      others: [R'], independent of them.
      limits: the least and the largest value possible, if there are such.

    Raises:
      ValueError: if limits are not finite or of no width, or values are outside.
    """
    if not len(values) or not len(others):
        return Interval(math.nan, math.nan, math.nan)
    if is_constant(values) or is_constant(others):
        return _hybrid(mean_interval(values, limits), mean_interval(others, limits))
    if limits is not None:
        _within(np.asarray([*values, *others], float), limits)
    with warnings.catch_warnings():  # of infinite values, and nearly equal ones
        warnings.simplefilter("ignore", RuntimeWarning)
        difference = float(np.mean(values) - np.mean(others))
        test = stats.ttest_ind(values, others, equal_var=False)
        low, high = test.confidence_interval(_CONFIDENCE)
    if limits is not None:
        low, high = np.clip([low, high], *_of_differences(limits))
    return Interval(difference, float(low), float(high))


def paired_interval(
    values: Sequence[float], others: Sequence[float], limits: Limits | None = None
) -> Interval:
    """How much larger `values` are than their partners: `mean_interval` of differences.

    Args:
      values: [R], one of each pair.
      others: [R], the other ones, in the same order.
      limits: the least and the largest value possible, if there are such.

    Raises:
      ValueError: if there are more of one than of the other, limits are not finite or
        of no width, or differences are larger than these allow.
    """
    if len(values) != len(others):
        raise ValueError(
            f"expected pairs of values, got {len(values)} and {len(others)} of them"
        )
    return mean_interval(
        differences(values, others), None if limits is None else _of_differences(limits)
    )


def differences(values: Sequence[float], others: Sequence[float]) -> np.ndarray:
    """Values less their partners, [R]; of those that only rounding parts, equal ones.

    4/5 - 3/5 and 1/5 - 0 are not the same number, for one.
    """
    pairs = np.array([values, others], float)
    with np.errstate(all="ignore"):  # of infinite values, and the largest
        largest = np.max(np.abs(pairs), initial=0)
        plain = pairs[0] - pairs[1]
        unit = 2.0 ** (np.ceil(np.log2(largest)) - _DIFFERENCE_PRECISION)
        rounded = unit * np.rint(plain / unit)
    return rounded if 0 < largest < _LONG else plain


def _of_differences(limits: Limits) -> Limits:
    low, high = limits
    return low - high, high - low
