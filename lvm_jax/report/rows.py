"""Rows of kept models: which belong together, and what their columns count.

A row is a dict: dataset, level, setting, seed, epoch, diverged, a column for each
hyperparameter and measure, and, where there is a truth, what has been recovered of it.
Rows of several samples, each perhaps of a truth of its own, have a column data_seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lvm_jax.report.intervals import Limits

Row = Mapping[str, Any]

DATA_SEED = "data_seed"


def group(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows that agree in some columns, in the order of their first row."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name]) for name in columns), []).append(row)
    return groups


def num_samples(rows: Iterable[Row]) -> int:
    """How many data seeds rows have: one, too, if they have no such column."""
    return len({row.get(DATA_SEED) for row in rows})


def add_shares(rows: Iterable[Row], num_truths: int) -> list[Row]:
    """Rows with the columns that shares of runs are of.

    Args:
      rows: one for each run, with recovery.
      num_truths: how many true latents there are.

    Returns:
      The rows with `full`, whether all truths are recovered, and
      `exact_after_filter`, whether the survivors are the truths, one each.
    """
    return [
        {
            **row,
            "full": row["num_recovered"] == num_truths,
            "exact_after_filter": row["num_kept"]
            == row["num_recovered_after_filter"]
            == num_truths,
        }
        for row in rows
    ]


def is_count(name: str) -> bool:
    """Whether a column counts something, so that a diverged run has zero of it."""
    return name.startswith("num_")


def is_share(rows: Iterable[Row], name: str) -> bool:
    """Whether a column is true or false, so that a diverged run is false."""
    return any(isinstance(row.get(name), bool | np.bool_) for row in rows)


def is_counted(name: str, diverged: np.ndarray) -> np.ndarray:
    """Which runs a column has values of, as bool: all of a count, else not diverged.

    Args:
      name: of the column.
      diverged: [...] bool.
    """
    return np.ones_like(diverged) if is_count(name) else ~diverged


def is_bound(rows: Iterable[Row], measure: str) -> bool:
    """Whether a measure of these rows is a lower bound."""
    return any(row.get(f"{measure}_is_bound", False) for row in rows)


def known_limits(
    num_truths: int | None, limits: Mapping[str, Limits] | None = None
) -> dict[str, Limits]:
    """The least and the largest value of columns: of truths recovered, and further.

    Args:
      num_truths: how many true latents there are; None if no truth is known.
      limits: further ones by column.
    """
    known = {}
    if num_truths is not None:
        known["num_recovered"] = known["num_recovered_after_filter"] = 0, num_truths
    return {**known, **(limits or {})}


class MissingColumnError(ValueError):
    """Rows have no such column.

    Attributes:
      column: its name.
    """

    def __init__(self, column: str, rows: Sequence[Row]):
        """That these rows, one at least, do not have it."""
        self.column = column
        super().__init__(f"expected a column {column}, got {', '.join(rows[0])}")


def counted(rows: Sequence[Row], name: str) -> list[tuple[Row, float]]:
    """Rows with their values of a column, of which a diverged run has no measure.

    It has zero of a count, and is false where a column is true or false.

    Raises:
      MissingColumnError: if the rows have no such column.
    """
    if any(name not in row for row in rows):
        raise MissingColumnError(name, rows)
    if is_count(name) or is_share(rows, name):
        return [(row, 0 if row["diverged"] else row[name]) for row in rows]
    return [(row, row[name]) for row in rows if not row["diverged"]]


def values_of(rows: Sequence[Row], name: str) -> list[float]:
    """The values of `counted`.

    Raises:
      MissingColumnError: if the rows have no such column.
    """
    return [value for _, value in counted(rows, name)]


def sample_means(rows: Sequence[Row], name: str) -> dict[Any, float]:
    """The mean of `values_of` by data seed, without those of which no run counts.

    Raises:
      ValueError: if the rows have no such column.
    """
    samples = {}
    for row, value in counted(rows, name):
        samples.setdefault(row.get(DATA_SEED), []).append(value)
    return {seed: float(np.mean(values)) for seed, values in samples.items()}
