"""Summaries and tables of saved results; nothing here trains, samples or knows a model.

Functions take rows as `lvm_jax.results` reads them.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lvm_jax.results import Row

_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and its 95% interval."""

    estimate: float
    low: float
    high: float

    def format(self, digits: int, scale: float = 1.0, sign: str = "") -> str:
        """The estimate with the interval in brackets; with sign "+", signed."""
        value, low, high = (f"{scale * number:{sign}.{digits}f}" for number in self)
        return f"{value} [{low}, {high}]"


class LevelSummary(NamedTuple):
    """Recovery of all runs of a level, by the models that they kept.

    Attributes:
      level: as in tables.
      num_runs: all runs; a diverged one counts as having recovered nothing.
      num_diverged: runs whose objective ceased to be finite.
      recovered: mean number of truths recovered.
      full: share of runs that recovered all truths.
      recovered_after_filter: mean number of truths recovered by the survivors.
      exact_after_filter: share of runs whose survivors are the truths, one each.
      measures: mean of each measure over the runs that did not diverge; of a count,
        over all runs.
      bounds: the measures that are lower bounds at this level.
    """

    level: str
    num_runs: int
    num_diverged: int
    recovered: Interval
    full: Interval
    recovered_after_filter: Interval
    exact_after_filter: Interval
    measures: dict[str, Interval]
    bounds: frozenset[str]


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with Student's t interval; without one below two values."""
    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = stats.sem(values) * stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)
    return Interval(mean, mean - half, mean + half)


def difference_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """How much larger the mean of `values` is, with Welch's interval."""
    difference = float(np.mean(values) - np.mean(others))
    if min(len(values), len(others)) < 2:
        return Interval(difference, math.nan, math.nan)
    with warnings.catch_warnings():  # of runs that are all alike
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(values, others, equal_var=False)
        return Interval(difference, *test.confidence_interval(_CONFIDENCE))


def share_interval(count: int, total: int) -> Interval:
    """A share with Wilson's score interval."""
    result = stats.binomtest(count, total)
    low, high = result.proportion_ci(_CONFIDENCE, method="wilson")
    return Interval(count / total, low, high)


def group_by_level(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each level, in the order of their first row."""
    levels = {}
    for row in rows:
        levels.setdefault(str(row["level"]), []).append(row)
    return levels


def is_bound(rows: Sequence[Row], measure: str) -> bool:
    """Whether a measure of these rows is a lower bound."""
    return any(row.get(f"{measure}_is_bound", False) for row in rows)


def _column(rows: Sequence[Row], name: str) -> list[float]:
    """A measure of the runs that did not diverge, or a count of all runs."""
    is_count = name.startswith("num_")
    return [row[name] for row in rows if is_count or not row["diverged"]]


def summarise(
    kept: Sequence[Row], num_truths: int, measures: Sequence[str]
) -> list[LevelSummary]:
    """Summarises the kept models of each level.

    Args:
      kept: a row for each run.
      num_truths: how many true latents there are.
      measures: columns to average. Where a column `<measure>_is_bound` is true,
        the measure is a lower bound.

    Returns:
      A summary for each level.
    """

    def summary(level, rows):
        def column(name):
            return [row[name] for row in rows]

        num_full = sum(count == num_truths for count in column("num_recovered"))
        num_exact = sum(
            row["num_kept"] == row["num_recovered_after_filter"] == num_truths
            for row in rows
        )
        return LevelSummary(
            level=level,
            num_runs=len(rows),
            num_diverged=sum(column("diverged")),
            recovered=mean_interval(column("num_recovered")),
            full=share_interval(num_full, len(rows)),
            recovered_after_filter=mean_interval(column("num_recovered_after_filter")),
            exact_after_filter=share_interval(num_exact, len(rows)),
            measures={name: mean_interval(_column(rows, name)) for name in measures},
            bounds=frozenset(name for name in measures if is_bound(rows, name)),
        )

    return [summary(level, rows) for level, rows in group_by_level(kept).items()]


def format_table(
    summaries: Sequence[LevelSummary],
    num_truths: int,
    headers: dict[str, str],
    *,
    digits: int = 2,
) -> str:
    """A table for the terminal: a row for each level, 95% intervals in brackets.

    Args:
      summaries: of each level.
      num_truths: how many true latents there are.
      headers: heading of each measure; others are left out.
      digits: decimals of the measures.
    """
    table = [
        [
            "level",
            "runs",
            "diverged",
            f"recovered of {num_truths}",
            "full recovery, %",
            "recovered, filtered",
            "exact, filtered, %",
            *headers.values(),
        ]
    ]
    for row in summaries:
        table.append(
            [
                row.level,
                str(row.num_runs),
                str(row.num_diverged),
                row.recovered.format(2),
                row.full.format(0, 100),
                row.recovered_after_filter.format(2),
                row.exact_after_filter.format(0, 100),
                *(
                    ("at least " if name in row.bounds else "")
                    + row.measures[name].format(digits)
                    for name in headers
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def format_differences(
    kept: Sequence[Row], headers: dict[str, str], *, digits: int = 2
) -> list[str]:
    """What other levels have over the first, a line each, with Welch's intervals.

    Args:
      kept: a row for each run. Diverged runs count as in `summarise`.
      headers: name of each measure; one that is a lower bound is left out.
      digits: decimals of the measures.
    """

    (first, base), *others = group_by_level(kept).items()
    lines = []
    for level, rows in others:
        parts = [
            f"{header} {interval.format(places, sign='+')}"
            for name, header, places in [
                ("num_recovered", "recovered", 2),
                *((name, header, digits) for name, header in headers.items()),
            ]
            if not is_bound([*base, *rows], name)
            for interval in [
                difference_interval(_column(rows, name), _column(base, name))
            ]
        ]
        lines.append(f"{level} less {first}: {', '.join(parts)}")
    return lines
