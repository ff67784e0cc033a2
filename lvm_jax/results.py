"""What a sweep leaves on disk: histories, kept models, parameters.

Tables are CSV, parameters are archives of arrays.
"""

import csv
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from lvm_jax import archive, files
from lvm_jax.plan import Group, SweepConfig
from lvm_jax.run import Record
from lvm_jax.types import Level

FLAGS = "flags.json"
HISTORY = "results.csv"
KEPT = "kept.csv"
LEARNED = "learned.npz"
TRUTH = "truth.npz"

Row = dict[str, Any]


def level_name(level: Level) -> str:
    """A level as it stands in tables: 16, or 10x10 for a tuple."""
    return "x".join(str(size) for size in jax.tree.leaves(level))


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes values as JSON."""
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    files.replace(path, lambda file: file.write(text.encode()))


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes rows that share their keys, at least one, as a CSV table."""
    rows = iter(rows)
    first = next(rows)

    def write(file):
        lines = _TextLines(file)
        writer = csv.DictWriter(lines, list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)

    files.replace(path, write)


class _TextLines:
    """The `write` that csv needs, on a binary file."""

    def __init__(self, file):
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.encode())


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def read_rows(path: pathlib.Path) -> list[Row]:
    """Reads a table of `write_rows`: integers, floats, booleans and text.

    Raises:
      OSError: if the file cannot be read.
    """
    with open(path, newline="") as file:
        return [
            {name: _value(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def write_sweep(
    workdir: pathlib.Path,
    history: Iterable[Row],
    kept_rows: Sequence[Row],
    learned: Any,
    truth: Any,
) -> None:
    """Writes all that a finished sweep leaves beside its flags.

    Args:
      workdir: where.
      history: a row for each run and epoch.
      kept_rows: a row for each run.
      learned: tree of arrays, the models that the runs keep.
      truth: tree of arrays, the true model.
    """
    write_rows(workdir / HISTORY, history)
    write_rows(workdir / KEPT, kept_rows)
    archive.write(workdir / LEARNED, learned)
    archive.write(workdir / TRUTH, truth)


def history_rows(
    dataset: str,
    config: SweepConfig,
    histories: Iterable[tuple[Sequence[Group], Sequence[Record]]],
) -> Iterator[Row]:
    """One row for each run and epoch, made one at a time.

    Args:
      dataset: its name.
      config: the levels and seeds, in the order of the rows.
      histories: plans and for each of their groups a Record of arrays [R, E]; all
        runs of the config are in one of them.

    Yields:
      Rows by level, seed and epoch.
    """
    place = {
        (level, seed): (record, run)
        for groups, records in histories
        for group, record in zip(groups, records, strict=True)
        for run, (level, seed) in enumerate(zip(group.levels, group.seeds, strict=True))
    }
    for level in config.levels:
        for seed in config.seeds:
            record, run = place[level, seed]
            columns = {
                **{f"train_{name}": values for name, values in record.train.items()},
                **{
                    f"held_out_{name}": values
                    for name, values in record.held_out.items()
                },
                **record.recovery,
                "diverged": record.diverged,
            }
            of_run = zip(
                *(values[run].tolist() for values in columns.values()), strict=True
            )
            for epoch, values in enumerate(of_run, 1):
                yield {
                    "dataset": dataset,
                    "level": level_name(level),
                    "seed": seed,
                    "epoch": epoch,
                    **dict(zip(columns, values, strict=True)),
                }
