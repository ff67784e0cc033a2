"""Tables of a study as claims read them: each once, and checked."""

import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lvm_jax import report
from lvm_jax.report.rows import DATA_SEED, group

Rows = Sequence[Mapping[str, Any]]

_TEXT = ("dataset", "level", "setting", "estimator", "state")  # columns of text
_SIZES = re.compile(r"\d{1,6}x\d{1,6}")  # of grammars, as tables have their levels
_MOST = 10**6  # latents, or whatever a level counts
# Which rows are of one run, or of one look at the runs of a data set.
_RUN = ("dataset", DATA_SEED, "level", "setting", "seed")
_LOOK = ("dataset", DATA_SEED, "level", "num_runs")


class Tables:
    """A folder of tables, of which some may not be there."""

    def __init__(self, folder: pathlib.Path):
        """The tables of a folder, each read when it is first asked for."""
        self.folder = folder
        self._paths, self._rows = {}, {}

    @property
    def names(self) -> list[str]:
        """Of those that have been read and are there, each part by itself."""
        return [path.stem for paths in self._paths.values() for path in paths]

    @property
    def num_runs(self) -> list[int]:
        """Numbers of runs that those read have of a level, sample and setting."""
        return sorted(
            {number for rows in self._rows.values() for number in _runs(rows)}
        )

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of NAME.csv, and of NAME_0.csv, NAME_16.csv, ... where it is in parts.

        There are none if it is not there.

        Raises:
          OSError: if one cannot be read.
          ValueError: if one is no table, has a value that its column cannot have, or a
            run is there twice.
        """
        if name not in self._rows:
            parts = sorted(self.folder.glob(f"{name}_*.csv"))
            parts = [path for path in parts if path.stem[len(name) + 1 :].isdigit()]
            paths = self._paths[name] = [*self.folder.glob(f"{name}.csv"), *parts]
            rows = [row for path in paths for row in _checked(path)]
            _check_runs(rows, " and ".join(map(str, paths)))
            self._rows[name] = rows
        return self._rows[name]

    def without(self, column: str) -> list[str]:
        """Names of those read that have no such column."""
        return [
            name for name, rows in self._rows.items() if rows and column not in rows[0]
        ]

    def lacking(self, names: Iterable[str]) -> Iterator[str]:
        """A line with the names of those that are not there, if there are any."""
        if absent := [name for name in names if not self.rows(name)]:
            yield f"Not there: {', '.join(absent)}."


def existing(folder: str) -> pathlib.Path:
    """A folder of tables that is there.

    Raises:
      ValueError: if it is not.
    """
    path = pathlib.Path(folder)
    if not folder or not path.is_dir():
        raise ValueError(f"expected a folder of tables as --tables, got {folder!r}")
    return path


def _runs(rows: Rows) -> Iterator[int]:
    """Numbers of runs of each level, sample and setting, of a table that has runs."""
    known = {*rows[0]} if rows else set()
    if "num_runs" in known:
        yield max(row["num_runs"] for row in rows)
    for column in ("seed", "run"):
        if {column, "level"} <= known:
            alike = {"level", "setting", DATA_SEED} & known
            for some in group(rows, *sorted(alike)).values():
                yield len({row[column] for row in some})


def _checked(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a table, if every value is one that its column can have."""
    rows = report.read_rows(path)
    for number, row in enumerate(rows, 1):
        for column, value in row.items():
            if (expected := _not_as(column, value)) is not None:
                raise ValueError(
                    f"{path}: expected {expected} as {column} in row {number} below "
                    f"the first, got {str(value)[:40]!r}"
                )
    return rows


def _not_as(column: str, value: Any) -> str | None:
    """What a column has to have, if a value is something else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if column == "diverged" and not isinstance(value, bool):
        return "True or False"
    if column == "level":
        is_size = isinstance(value, str) and _SIZES.fullmatch(value)
        is_whole = isinstance(value, int) and is_number and 0 < value <= _MOST
        return None if is_size or is_whole else "a number of latents"
    if column in ("seed", "num_runs"):
        return (
            None
            if is_number and isinstance(value, int) and value >= 0
            else ("a whole number")
        )
    if column not in _TEXT and isinstance(value, str):
        return "a number"
    if is_number and isinstance(value, int) and not math.isfinite(_as_float(value)):
        return "a number of floating point"
    return None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check_runs(rows: Rows, names: str) -> None:
    """Refuses a run that is there twice: it is one run, whatever it is twice of."""
    known = {*rows[0]} if rows else set()
    is_of_latents = "latent" in known
    for columns in (_RUN, _LOOK):
        if {"level", columns[-1]} <= known and not is_of_latents:
            columns = [name for name in columns if name in known]
            for values, some in group(rows, *columns).items():
                if len(some) > 1:
                    place = ", ".join(map(" ".join, zip(columns, values, strict=True)))
                    raise ValueError(
                        f"{names}: expected one row of each run, got {len(some)} of "
                        f"{place}"
                    )
