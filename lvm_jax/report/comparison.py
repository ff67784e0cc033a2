"""Comparisons of levels and settings: intervals of differences, and p values.

An interval and a p value of one difference may come from different methods, and may
then disagree where the one just excludes zero or the other is just small.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lvm_jax.report.intervals import (
    Interval,
    Limits,
    difference_interval,
    differences,
    is_constant,
    paired_interval,
    share_difference_interval,
)
from lvm_jax.report.rows import (
    Row,
    add_shares,
    counted,
    group,
    is_bound,
    is_share,
    known_limits,
    num_samples,
    sample_means,
    values_of,
)


class Comparison(NamedTuple):
    """How much larger a column is in some rows than in others.

    Attributes:
      estimate: the difference of means or of shares.
      low: lower end of its 95% interval, nan where there is none.
      high: upper end, likewise.
      p_value: of no difference, two-sided, of this comparison alone or adjusted for a
        family (`adjust`); nan where it cannot be said.
      kind: by which methods.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    kind: str

    def format(self, digits: int, scale: float = 1.0) -> str:
        """The signed difference with its interval, and the p value."""
        interval = Interval(self.estimate, self.low, self.high)
        p_text = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        return f"{interval.format(digits, scale, '+')}, {p_text}"


def compare(
    rows: Sequence[Row],
    others: Sequence[Row],
    name: str,
    limits: Limits | None = None,
) -> Comparison:
    """Compares a column of some runs with that of others.

    They are of one data set. What runs share decides how:

    - Of several data seeds, all runs of one share its truth and sample: pairs are
      means, or shares, by data seed. Data seeds without a partner are left out.
    - At one level, runs of a seed share start and batches: pairs are runs by seed. A
      pair of which one run has diverged is left out of measures.
    - At different levels runs share nothing but the sample, and are not paired: means
      have Welch's interval and test (1947), and shares, of a column that is true or
      false, Newcombe's hybrid score interval (1998) and Fisher's exact test.

    Differences of pairs have `paired_interval` and the paired t test.

    Args:
      rows: of runs, of `Results.kept_rows` or `read_rows`.
      others: likewise.
      name: of the column. Diverged runs count as in `summarise`.
      limits: the least and the largest value possible, if there are such; 0 and 1 of
        shares.

    Raises:
      ValueError: if rows lack the column, values leave their limits, or runs at one
        level share a seed.
    """
    everyone = [*rows, *others]
    of_shares = is_share(everyone, name)
    if of_shares:
        limits = (0, 1)
    if num_samples(everyone) > 1:
        means = (sample_means(some, name) for some in (rows, others))
        return _compare_pairs(*means, limits, "paired by data seed")
    if len(group(everyone, "level")) == 1:
        values = (_by_seed(some, name) for some in (rows, others))
        return _compare_pairs(*values, limits, "paired by seed")
    values, partners = (values_of(some, name) for some in (rows, others))
    if of_shares:
        return _compare_shares(values, partners)
    interval = difference_interval(values, partners, limits)
    return Comparison(*interval, _welch_p_value(values, partners), "Welch")


def _by_seed(rows: Sequence[Row], name: str) -> dict[Any, float]:
    """A column by seed, without the runs that do not count."""
    for (seed,), some in group(rows, "seed").items():
        if len(some) > 1:
            raise ValueError(f"expected one run of a seed, got {len(some)} of {seed}")
    return {row["seed"]: value for row, value in counted(rows, name)}


def _compare_pairs(
    values: Mapping[Any, float],
    others: Mapping[Any, float],
    limits: Limits | None,
    kind: str,
) -> Comparison:
    shared = [key for key in values if key in others]
    pairs = [[of[key] for key in shared] for of in (values, others)]
    interval = paired_interval(*pairs, limits)
    return Comparison(*interval, _paired_p_value(*pairs), kind)


def _compare_shares(values: Sequence[bool], others: Sequence[bool]) -> Comparison:
    counts = [(sum(some), len(some)) for some in (values, others)]
    interval = share_difference_interval(*counts[0], *counts[1])
    table = [[count, total - count] for count, total in counts]
    p_value = float(stats.fisher_exact(table).pvalue)
    return Comparison(*interval, p_value, "Newcombe, Fisher")


def _welch_p_value(values: Sequence[float], others: Sequence[float]) -> float:
    if is_constant(values) and is_constant(others):
        return 1.0 if values[0] == others[0] else math.nan
    if min(len(values), len(others)) < 2:
        return math.nan
    return _p_value(lambda: stats.ttest_ind(values, others, equal_var=False))


def _paired_p_value(values: Sequence[float], others: Sequence[float]) -> float:
    of_pairs = differences(values, others)
    if is_constant(of_pairs):
        return 1.0 if of_pairs[0] == 0 else math.nan
    if len(of_pairs) < 2:
        return math.nan
    return _p_value(lambda: stats.ttest_1samp(of_pairs, 0.0))


def _p_value(test: Callable[[], Any]) -> float:
    with warnings.catch_warnings():  # of infinite values, and nearly equal ones
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(test().pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts the p values of a family of comparisons by Holm's method.

    Those of which the adjusted p value is at most a are rejected by a procedure that
    rejects any true hypothesis of the family with a probability of at most a. Holm
    1979, A Simple Sequentially Rejective Multiple Test Procedure.

    Args:
      p_values: of the family. One that is nan stays nan, and counts: as if it were 1.

    Returns:
      Adjusted p values, in the same order.
    """
    given = np.asarray(p_values, float)
    order = np.argsort(given)  # nan comes last
    multiples = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(np.maximum.accumulate(multiples), 1.0)
    return adjusted.tolist()


def adjust(family: Mapping[Any, Comparison]) -> dict[Any, Comparison]:
    """The comparisons of a family with p values adjusted for it, by `holm`."""
    adjusted = holm([comparison.p_value for comparison in family.values()])
    return {
        key: comparison._replace(p_value=p_value)
        for (key, comparison), p_value in zip(family.items(), adjusted, strict=True)
    }


class _Pair(NamedTuple):
    """Rows that are compared with others."""

    title: str
    rows: Sequence[Row]
    others: Sequence[Row]


class _Compared(NamedTuple):
    """What is compared, and how it is shown."""

    name: str
    header: str
    digits: int
    scale: float = 1.0


def format_differences(
    rows: Sequence[Row],
    num_truths: int | None,
    headers: Mapping[str, str],
    limits: Mapping[str, Limits] | None = None,
    *,
    digits: int = 2,
) -> list[str]:
    """What levels and settings have over the first of them, a line each.

    Of every setting, the other levels less the first; of every level, the other
    settings less the first; each as `compare` does it. A family is all comparisons of
    these rows in one column; p values are adjusted within it (`holm`), and the last
    line has how many there are.

    Args:
      rows: one for each run. Diverged runs count as in `summarise`.
      num_truths: how many true latents there are, of which the number recovered and
        the share of full recoveries are compared; None if no truth is known.
      headers: name of each measure; one that is a lower bound in any of two groups is
        not compared.
      limits: {column: the least and the largest value possible}; those of truths
        recovered are known.
      digits: decimals of the measures.

    Raises:
      ValueError: if the rows lack one of the measures.
    """
    columns = [_Compared(name, header, digits) for name, header in headers.items()]
    if num_truths is not None:
        rows = add_shares(rows, num_truths)
        columns = [
            _Compared("num_recovered", "recovered", 2),
            _Compared("full", "full recovery, %", 0, 100),
            *columns,
        ]
    known = known_limits(num_truths, limits)
    pairs = [*_pair_levels(rows), *_pair_settings(rows)]
    lines, sizes = {pair.title: [] for pair in pairs}, []
    for of in columns:
        family = {
            pair.title: compare(pair.rows, pair.others, of.name, known.get(of.name))
            for pair in pairs
            if not is_bound([*pair.rows, *pair.others], of.name)
        }
        for title, comparison in adjust(family).items():
            text = comparison.format(of.digits, of.scale)
            lines[title].append(f"{of.header} {text} ({comparison.kind})")
        if family:
            sizes.append(f"{of.header} {len(family)}")
    text = [f"{title}: {'; '.join(parts)}" for title, parts in lines.items() if parts]
    if sizes:
        text.append(
            "intervals are of each difference alone; p is adjusted by Holm's method "
            f"for the number of comparisons in a column: {'; '.join(sizes)}"
        )
    return text


def _pair_levels(rows: Sequence[Row]) -> list[_Pair]:
    settings = group(rows, "setting")
    pairs = []
    for (setting,), of_setting in settings.items():
        place = f" at setting {setting}" if len(settings) > 1 else ""
        ((first,), of_first), *others = group(of_setting, "level").items()
        pairs += [
            _Pair(f"{level} less {first}{place}", some, of_first)
            for (level,), some in others
        ]
    return pairs


def _pair_settings(rows: Sequence[Row]) -> list[_Pair]:
    pairs = []
    for (level,), of_level in group(rows, "level").items():
        ((first,), of_first), *others = group(of_level, "setting").items()
        pairs += [
            _Pair(f"setting {setting} less {first} at level {level}", some, of_first)
            for (setting,), some in others
        ]
    return pairs
