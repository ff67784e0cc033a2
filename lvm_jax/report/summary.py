"""Summaries and tables of kept models."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lvm_jax.report.intervals import Interval, Limits, mean_interval, share_interval
from lvm_jax.report.rows import (
    Row,
    add_shares,
    group,
    is_bound,
    is_share,
    known_limits,
    num_samples,
    sample_means,
    values_of,
)

# The columns of which a summary has recovery, in its order.
_RECOVERY = (
    "num_recovered",
    "full",
    "num_recovered_after_filter",
    "exact_after_filter",
)


class Summary(NamedTuple):
    """All runs of a level at a setting, by the models that they kept.

    Attributes:
      level: as in tables.
      setting: its name.
      num_runs: all runs; a diverged one counts as having recovered nothing.
      num_diverged: runs whose objective ceased to be finite.
      num_samples: the data seeds that intervals are over, each with the mean of its
        runs; None if they are over the runs themselves, on one sample.
      recovered: mean number of truths recovered; None, as the three below, where no
        truth is known.
      full: share of runs that recovered all truths.
      recovered_after_filter: mean number of truths recovered by the survivors.
      exact_after_filter: share of runs whose survivors are the truths, one each.
      measures: mean of each measure over the runs that did not diverge; of a count
        or a share, over all runs.
      bounds: the measures that are lower bounds here.
    """

    level: str
    setting: str
    num_runs: int
    num_diverged: int
    num_samples: int | None
    recovered: Interval | None
    full: Interval | None
    recovered_after_filter: Interval | None
    exact_after_filter: Interval | None
    measures: dict[str, Interval]
    bounds: frozenset[str]


def summarise(
    rows: Sequence[Row],
    num_truths: int | None,
    measures: Sequence[str],
    limits: Mapping[str, Limits] | None = None,
) -> list[Summary]:
    """Summarises the kept models of each level and setting.

    Intervals of means are those of `mean_interval`, which stay within limits where
    they are known; of shares, columns that are true or false, Wilson's. Of rows with
    several data seeds, runs of one share its sample and are no independent
    observations: means and shares are taken for each data seed first, and intervals
    are `mean_interval` of these, shares within 0 to 1.

    Args:
      rows: one for each run.
      num_truths: how many true latents there are; None if no truth is known.
      measures: columns to average. Where a column `<measure>_is_bound` is true,
        the measure is a lower bound.
      limits: {column: the least and the largest value possible}; those of truths
        recovered are known.

    Returns:
      A summary for each level and setting, in the order of their first row.

    Raises:
      ValueError: if the rows lack one of the columns, or one leaves its limits.
    """
    known = known_limits(num_truths, limits)
    is_clustered = num_samples(rows) > 1

    def intervals(some, names):
        return [interval(some, name, known.get(name), is_clustered) for name in names]

    summaries = []
    for (level, setting), some in group(rows, "level", "setting").items():
        recovery = [None] * len(_RECOVERY)
        if num_truths is not None:
            recovery = intervals(add_shares(some, num_truths), _RECOVERY)
        summaries.append(
            Summary(
                level,
                setting,
                len(some),
                sum(bool(row["diverged"]) for row in some),
                num_samples(some) if is_clustered else None,
                *recovery,
                measures=dict(zip(measures, intervals(some, measures), strict=True)),
                bounds=frozenset(name for name in measures if is_bound(some, name)),
            )
        )
    return summaries


def interval(
    rows: Sequence[Row], name: str, limits: Limits | None, is_clustered: bool
) -> Interval:
    """The mean of a column, as `summarise` has it, over samples if it is clustered."""
    of_shares = is_share(rows, name)
    if is_clustered:
        means = list(sample_means(rows, name).values())
        return mean_interval(means, (0, 1) if of_shares else limits)
    values = values_of(rows, name)
    if of_shares:
        return share_interval(sum(values), len(values))
    return mean_interval(values, limits)


def over(numbers: Sequence[int | None]) -> str:
    """What intervals are over, in words.

    Args:
      numbers: of data seeds, of each summary; None on one sample.
    """
    known = {number for number in numbers if number is not None}
    if not known:
        return "runs on one sample"
    few, many = min(known), max(known)
    return f"{few if few == many else f'{few} to {many}'} truths and samples"


def format_table(
    summaries: Sequence[Summary],
    num_truths: int | None,
    headers: Mapping[str, str],
    *,
    digits: int = 2,
) -> str:
    """A table for the terminal: a row for each summary, 95% intervals in brackets.

    Settings have a column if there are several, and recovery has its own if a truth
    is known. Below it is what the intervals are over.

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
    numbers = [row.num_samples for row in summaries]
    if None not in numbers:
        columns.append(("samples", list(map(str, numbers))))
    if num_truths is not None:
        columns += [
            (heading, [getattr(row, name).format(*form) for row in summaries])
            for heading, name, form in (
                (f"mean recovered of {num_truths}", "recovered", (2,)),
                ("full recovery, % of runs", "full", (0, 100)),
                ("mean recovered, filtered", "recovered_after_filter", (2,)),
                ("exact, filtered, % of runs", "exact_after_filter", (0, 100)),
            )
        ]
    columns += [
        (heading, [_format_measure(row, name, digits) for row in summaries])
        for name, heading in headers.items()
    ]
    lines = [align([[heading, *cells] for heading, cells in columns])]
    lines.append(f"95% intervals of means and shares over {over(numbers)}")
    if any(row.num_diverged for row in summaries):
        lines.append(
            "a diverged run has zero of what is counted, and is in no other mean"
        )
    return "\n".join(lines)


def _format_measure(summary: Summary, measure: str, digits: int) -> str:
    bound = "at least " if measure in summary.bounds else ""
    return bound + summary.measures[measure].format(digits)


def align(columns: Sequence[Sequence[str]]) -> str:
    """Cells as lines, each column as wide as its widest, a rule below the first."""
    widths = [max(map(len, cells)) for cells in columns]
    first, *others = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in zip(*columns, strict=True)
    ]
    return "\n".join([first, "-" * len(first), *others])
