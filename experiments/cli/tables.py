"""Tables of a study as claims read them: each once, and checked."""

import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lvm_jax import report
from lvm_jax.report.rows import DATA_SEED, group

Rows = Sequence[Mapping[str, Any]]

_TEXT = ("dataset", "level", "setting", "estimator", "state")  # columns of text
_SIZES = re.compile(r"\d{1,6}x\d{1,6}")  # of grammars, as tables have their levels
_MOST = 2**32  # latents, or whatever is counted
_LARGEST = 1e300
# What tells rows of a table from one another, of the columns that it has.
_KEYS = ("dataset", "num_train", DATA_SEED, "level", "setting", "seed", "run")
_KEYS += ("num_runs", "latent", "limit", "state", "estimator", "end", "is_late")
_MEASURED = ("diverged", "truth")  # of which rows have one: `epoch` is a measure, too
_UNBOUNDED = ("relative_variance",)


class Tables:
    """A folder of tables, of which some may not be there."""

    def __init__(self, folder: pathlib.Path):
        """The tables of a folder, each read when it is first asked for."""
        self.folder = folder
        self._paths, self._rows = {}, {}
        self._datasets, self._prefixes = {}, {}  # each by the other

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
            _check_once(rows, paths)
            self._check_data_set(name, rows, paths)
            self._rows[name] = rows
        return self._rows[name]

    def _check_data_set(
        self, name: str, rows: Rows, paths: Sequence[pathlib.Path]
    ) -> None:
        """Refuses two data sets in tables of one name, DATASET_..., and the reverse."""
        prefix = name.split("_")[0]
        for dataset in {row["dataset"]: None for row in rows if "dataset" in row}:
            known = self._datasets.setdefault(prefix, dataset)
            if known != dataset:
                raise ValueError(
                    f"{_shown(paths)}: expected runs on {known}, as other tables of "
                    f"{prefix} have, got runs on {dataset}"
                )
            other = self._prefixes.setdefault(dataset, prefix)
            if other != prefix:
                raise ValueError(
                    f"{_shown(paths)}: expected runs on {prefix}, got runs on "
                    f"{dataset}, as tables of {other} have"
                )

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
    if not rows:
        raise ValueError(f"{path}: expected rows, got none")
    for number, row in enumerate(rows, 1):
        has_diverged = row.get("diverged") is True
        for column, value in row.items():
            if (expected := _not_as(column, value, has_diverged)) is not None:
                raise ValueError(
                    f"{path}: expected {expected} as {column} in row {number} below "
                    f"the first, got {str(value)[:40]!r}"
                )
    return rows


def _not_as(column: str, value: Any, has_diverged: bool) -> str | None:
    """What a column has to have, if a value is something else."""
    is_bool = isinstance(value, bool)
    is_whole = isinstance(value, int) and not is_bool and 0 <= value <= _MOST
    if column == "diverged":
        return None if is_bool else "True or False"
    if column == "level":
        is_size = isinstance(value, str) and _SIZES.fullmatch(value)
        return None if is_size or (is_whole and value) else "a number of latents"
    if column in _TEXT:
        return None
    if isinstance(value, str):
        return "a number"
    if has_diverged or column in _UNBOUNDED:
        return None
    if column == "seed" or column.startswith("num_"):
        return None if is_whole else f"a whole number from 0 to {_MOST}"
    return None if abs(value) <= _LARGEST else "a finite number"


def _check_once(rows: Rows, paths: Sequence[pathlib.Path]) -> None:
    """Refuses a run, or whatever rows are of, that is there twice."""
    known = {*rows[0]} if rows else set()
    keys = _KEYS
    if known.isdisjoint(_MEASURED):
        keys += ("epoch",)
    elif "run" in known:
        keys += ("truth",)
    keys = [name for name in keys if name in known]
    for values, some in group(rows, *keys).items():
        if len(some) > 1:
            of = ", ".join(map(" ".join, zip(keys, values, strict=True)))
            raise ValueError(
                f"{_shown(paths)}: expected each row once, got {len(some)} of {of}"
            )


def _shown(paths: Sequence[pathlib.Path]) -> str:
    return " and ".join(map(str, paths))
