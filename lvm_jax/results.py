"""What a sweep leaves on disk: histories, kept models, parameters.

Tables are CSV, parameters are NumPy archives read without pickle. Every file is
written beside its place and moved there, so that none is ever half-written.
"""

import csv
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from lvm_jax.sweep import Group, Record
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


def create_workdir(path: pathlib.Path) -> pathlib.Path:
    """Makes a new directory for a sweep's results.

    Args:
      path: where. An empty directory may be there already.

    Returns:
      The path.

    Raises:
      ValueError: if something is there that a sweep would overwrite.
      OSError: if the directory cannot be made.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"expected a directory as workdir, got the file {path}")
    if path.exists() and any(path.iterdir()):
        raise ValueError(
            f"expected a new or empty workdir, got {path}, which has files"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def _replace(path: pathlib.Path, write) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes a dictionary as JSON."""
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    _replace(path, lambda file: file.write(text.encode()))


def write_rows(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes rows that share their keys as a CSV table."""

    def write(file):
        lines = _TextLines(file)
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

    _replace(path, write)


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


def write_arrays(path: pathlib.Path, tree: Any) -> None:
    """Writes a tree of arrays as an archive; names are paths such as 8/model/prior."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }
    _replace(path, lambda file: np.savez(file, **arrays))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an archive of `write_arrays`.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it holds anything but arrays.
    """
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def write_sweep(
    workdir: pathlib.Path,
    history: Sequence[Row],
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
    write_arrays(workdir / LEARNED, learned)
    write_arrays(workdir / TRUTH, truth)


def history_rows(
    dataset: str, groups: Iterable[Group], records: Iterable[Record], start: int = 0
) -> list[Row]:
    """One row for each run and epoch.

    Args:
      dataset: its name.
      groups: the sweep's plan.
      records: for each group, arrays [R, E] of the epochs after `start`.
      start: the epoch before the first.

    Returns:
      Rows by level, seed and epoch.
    """
    rows = []
    for group, record in zip(groups, records, strict=True):
        columns = {
            **{f"train_{name}": values for name, values in record.train.items()},
            **{f"held_out_{name}": values for name, values in record.held_out.items()},
            **record.recovery,
            "diverged": record.diverged,
        }
        for run, (level, seed) in enumerate(
            zip(group.levels, group.seeds, strict=True)
        ):
            run_columns = [values[run].tolist() for values in columns.values()]
            rows += [
                {
                    "dataset": dataset,
                    "level": level_name(level),
                    "seed": seed,
                    "epoch": start + epoch,
                    **dict(zip(columns, values, strict=True)),
                }
                for epoch, values in enumerate(zip(*run_columns, strict=True), 1)
            ]
    return rows
