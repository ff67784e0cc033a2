"""Summaries, intervals and tables of kept models.

A row is a dict: dataset, level, setting, seed, epoch, diverged, a column for each
hyperparameter and measure, and, where there is a truth, what has been recovered of it.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Row = Mapping[str, Any]

_CONFIDENCE = 0.95
_LONG = 1e12  # what is written with an exponent from here on


class Interval(NamedTuple):
    """An estimate and its 95% interval."""

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


class Summary(NamedTuple):
    """All runs of a level at a setting, by the models that they kept.

    Attributes:
      level: as in tables.
      setting: its name.
      num_runs: all runs; a diverged one counts as having recovered nothing.
      num_diverged: runs whose objective ceased to be finite.
      recovered: mean number of truths recovered; None, as the three below, where no
        truth is known.
      full: share of runs that recovered all truths.
      recovered_after_filter: mean number of truths recovered by the survivors.
      exact_after_filter: share of runs whose survivors are the truths, one each.
      measures: mean of each measure over the runs that did not diverge; of a count,
        over all runs.
      bounds: the measures that are lower bounds here.
    """

    level: str
    setting: str
    num_runs: int
    num_diverged: int
    recovered: Interval | None
    full: Interval | None
    recovered_after_filter: Interval | None
    exact_after_filter: Interval | None
    measures: dict[str, Interval]
    bounds: frozenset[str]


def mean_intervals(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Means over the first axis with Student's t intervals.

    Args:
      values: [R, ...].
      counted: [R, ...] bool, which of the values are averaged.

    Returns:
      [3, ...]: the mean, nan of no values; low and high, nan below two values.
    """
    values = np.asarray(values, float)
    number = np.sum(counted, axis=0)
    with np.errstate(all="ignore"):
        mean = np.sum(values, axis=0, where=counted) / number
        squares = np.sum((values - mean) ** 2, axis=0, where=counted)
        error = np.sqrt(squares / (number - 1) / number)
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, number - 1) * error
        return np.stack([mean, mean - half, mean + half])


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with Student's t interval; without one below two values."""
    intervals = mean_intervals(values, np.ones(len(values), bool))
    return Interval(*intervals.tolist())


def paired_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """How much larger `values` are than their partners, with Student's t interval.

    Args:
      values: one of each pair.
      others: the other ones, in the same order.

    Raises:
      ValueError: if there are more of one than of the other.
    """
    if len(values) != len(others):
        raise ValueError(
            f"expected pairs of values, got {len(values)} and {len(others)} of them"
        )
    with np.errstate(all="ignore"):  # of infinite values, and the largest
        return mean_interval(np.asarray(values, float) - np.asarray(others, float))


def difference_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """How much larger the mean of `values` is, with Welch's interval."""
    with warnings.catch_warnings():  # of runs that are all alike, or none
        warnings.simplefilter("ignore", RuntimeWarning)
        difference = float(np.mean(values) - np.mean(others))
        if min(len(values), len(others)) < 2:
            return Interval(difference, math.nan, math.nan)
        test = stats.ttest_ind(values, others, equal_var=False)
        low, high = test.confidence_interval(_CONFIDENCE)
    return Interval(difference, float(low), float(high))


def share_interval(count: int, total: int) -> Interval:
    """A share with Wilson's score interval."""
    result = stats.binomtest(count, total)
    low, high = result.proportion_ci(_CONFIDENCE, method="wilson")
    return Interval(count / total, float(low), float(high))


def group(rows: Sequence[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows that agree in some columns, in the order of their first row."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name]) for name in columns), []).append(row)
    return groups


def is_count(name: str) -> bool:
    """Whether a column counts something, so that a diverged run has zero of it."""
    return name.startswith("num_")


def is_bound(rows: Sequence[Row], measure: str) -> bool:
    """Whether a measure of these rows is a lower bound."""
    return any(row.get(f"{measure}_is_bound", False) for row in rows)


def column(rows: Sequence[Row], name: str) -> list[float]:
    """A measure of the runs that did not diverge, or a count of all runs.

    Raises:
      ValueError: if the rows have no such column.
    """
    if any(name not in row for row in rows):
        raise ValueError(f"expected a column {name}, got {', '.join(rows[0])}")
    if is_count(name):
        return [0 if row["diverged"] else row[name] for row in rows]
    return [row[name] for row in rows if not row["diverged"]]


def summarise(
    rows: Sequence[Row], num_truths: int | None, measures: Sequence[str]
) -> list[Summary]:
    """Summarises the kept models of each level and setting.

    Args:
      rows: one for each run.
      num_truths: how many true latents there are; None if no truth is known.
      measures: columns to average. Where a column `<measure>_is_bound` is true,
        the measure is a lower bound.

    Returns:
      A summary for each level and setting, in the order of their first row.

    Raises:
      ValueError: if the rows lack one of the columns.
    """
    return [
        Summary(
            level,
            setting,
            len(of_group),
            sum(bool(row["diverged"]) for row in of_group),
            *_summarise_recovery(of_group, num_truths),
            measures={name: mean_interval(column(of_group, name)) for name in measures},
            bounds=frozenset(name for name in measures if is_bound(of_group, name)),
        )
        for (level, setting), of_group in group(rows, "level", "setting").items()
    ]


def _summarise_recovery(
    rows: Sequence[Row], num_truths: int | None
) -> tuple[Interval | None, Interval | None, Interval | None, Interval | None]:
    if num_truths is None:
        return None, None, None, None
    recovered = column(rows, "num_recovered")
    filtered = column(rows, "num_recovered_after_filter")
    survivors = zip(column(rows, "num_kept"), filtered, strict=True)
    num_full = sum(number == num_truths for number in recovered)
    num_exact = sum(kept == number == num_truths for kept, number in survivors)
    return (
        mean_interval(recovered),
        share_interval(num_full, len(rows)),
        mean_interval(filtered),
        share_interval(num_exact, len(rows)),
    )


def format_table(
    summaries: Sequence[Summary],
    num_truths: int | None,
    headers: Mapping[str, str],
    *,
    digits: int = 2,
) -> str:
    """A table for the terminal: a row for each summary, 95% intervals in brackets.

    Settings have a column if there are several, and recovery has its own if a truth
    is known.

    Args:
      summaries: of `summarise`.
      num_truths: how many true latents there are; None if no truth is known.
      headers: heading of each measure; others are left out.
      digits: decimals of the measures.
    """
    columns = [("level", [row.level for row in summaries])]
    if len({row.setting for row in summaries}) > 1:
        columns.append(("setting", [row.setting for row in summaries]))
    columns += [
        ("runs", [str(row.num_runs) for row in summaries]),
        ("diverged", [str(row.num_diverged) for row in summaries]),
    ]
    if num_truths is not None:
        columns += [
            (heading, [getattr(row, name).format(*form) for row in summaries])
            for heading, name, form in (
                (f"recovered of {num_truths}", "recovered", (2,)),
                ("full recovery, %", "full", (0, 100)),
                ("recovered, filtered", "recovered_after_filter", (2,)),
                ("exact, filtered, %", "exact_after_filter", (0, 100)),
            )
        ]
    columns += [
        (heading, [_format_measure(row, name, digits) for row in summaries])
        for name, heading in headers.items()
    ]
    return _align([[heading, *cells] for heading, cells in columns])


def _format_measure(summary: Summary, measure: str, digits: int) -> str:
    bound = "at least " if measure in summary.bounds else ""
    return bound + summary.measures[measure].format(digits)


def _align(columns: Sequence[Sequence[str]]) -> str:
    """Cells as lines, each column as wide as its widest, a rule below the first."""
    widths = [max(map(len, cells)) for cells in columns]
    first, *others = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in zip(*columns, strict=True)
    ]
    return "\n".join([first, "-" * len(first), *others])


class _Comparison(NamedTuple):
    """What rows have over others, by which interval."""

    title: str
    rows: Sequence[Row]
    others: Sequence[Row]
    interval: Callable[[Sequence[Row], Sequence[Row], str], Interval]


def format_differences(
    rows: Sequence[Row], headers: Mapping[str, str], *, digits: int = 2
) -> list[str]:
    """What levels and settings have over the first of them, a line each.

    Of every setting, the other levels less the first, by Welch's interval. Of every
    level, the other settings less the first, by the interval of paired differences:
    runs of a seed share start and batches. A pair of which one run has diverged is
    left out of measures, as that run is elsewhere.

    Args:
      rows: one for each run. Diverged runs count as in `summarise`.
      headers: name of each measure; one that is a lower bound is left out.
      digits: decimals of the measures.

    Raises:
      ValueError: if the rows lack one of the measures.
    """
    compared = [(name, header, digits) for name, header in headers.items()]
    if rows and "num_recovered" in rows[0]:
        compared.insert(0, ("num_recovered", "recovered", 2))
    lines = []
    for title, of_first, of_other, interval in [
        *_compare_levels(rows),
        *_compare_settings(rows),
    ]:
        parts = [
            f"{header} {interval(of_first, of_other, name).format(places, sign='+')}"
            for name, header, places in compared
            if not is_bound([*of_first, *of_other], name)
        ]
        if parts:
            lines.append(f"{title}: {', '.join(parts)}")
    return lines


def _compare_levels(rows: Sequence[Row]) -> list[_Comparison]:
    settings = group(rows, "setting")
    comparisons = []
    for (setting,), of_setting in settings.items():
        place = f" at setting {setting}" if len(settings) > 1 else ""
        ((first,), of_first), *others = group(of_setting, "level").items()
        comparisons += [
            _Comparison(f"{level} less {first}{place} (Welch)", some, of_first, _welch)
            for (level,), some in others
        ]
    return comparisons


def _compare_settings(rows: Sequence[Row]) -> list[_Comparison]:
    comparisons = []
    for (level,), of_level in group(rows, "level").items():
        ((first,), of_first), *others = group(of_level, "setting").items()
        comparisons += [
            _Comparison(
                f"setting {setting} less {first} at level {level} (paired)",
                some,
                of_first,
                _paired,
            )
            for (setting,), some in others
        ]
    return comparisons


def _welch(rows: Sequence[Row], others: Sequence[Row], name: str) -> Interval:
    return difference_interval(column(rows, name), column(others, name))


def _paired(rows: Sequence[Row], others: Sequence[Row], name: str) -> Interval:
    partners = {row["seed"]: row for row in others}
    pairs = [(row, partners[row["seed"]]) for row in rows if row["seed"] in partners]
    if not is_count(name):
        pairs = [pair for pair in pairs if not any(row["diverged"] for row in pair)]
    return paired_interval(
        column([row for row, _ in pairs], name),
        column([partner for _, partner in pairs], name),
    )
