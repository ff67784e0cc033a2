"""Tables as text: rows as CSV, written and read, and numbers separated by blanks."""

import codecs
import csv
import io
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from lvm_jax.files import atomic, regular

Row = dict[str, Any]


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes rows that share their keys, at least one, as a CSV table.

    Args:
      path: the file, which is written whole or not at all.
      rows: taken one at a time; the first names the columns.

    Raises:
      ValueError: if a row has a key that the first has not.
    """
    rows = iter(rows)
    first = next(rows)

    def write(file):
        writer = csv.DictWriter(_TextLines(file), list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)

    atomic.replace(path, write)


class _TextLines:
    """The `write` that csv needs, on a binary file."""

    def __init__(self, file):
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.encode())


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):  # A spreadsheet has them in capitals.
        return text.lower() == "true"
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def read_rows(path: pathlib.Path) -> list[Row]:
    """Reads a table of `write_rows`: integers, floats, booleans and text.

    Args:
      path: the file.

    Returns:
      A dictionary for each row.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is no such table.
    """
    name = regular.shown(path)
    with regular.open_file(path) as file:
        lines = io.StringIO(_decoded(regular.read_text(file, name), "utf-8", name))
    reader = csv.DictReader(lines, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(
            f"{name}: expected a table, got {error} after line {reader.line_num}"
        ) from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(
                f"{name}: expected {len(reader.fieldnames)} cells, as the first row "
                f"has, got another number in row {number} below it"
            )
    return [{key: _value(text) for key, text in row.items()} for row in rows]


def _decoded(content: bytes, encoding: str, name: str) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        if b"\0" not in content:
            return content.decode(encoding)
    except UnicodeDecodeError:
        pass
    raise ValueError(f"{name}: expected a text file, got binary data")


def _numbers(text: str, path: pathlib.Path, line: int) -> np.ndarray:
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected numbers in line {line}, got {text.strip()[:40]!r}"
        ) from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers in line {line}, got NaN")
    return values


def lines(path: pathlib.Path) -> list[np.ndarray]:
    """Reads the numbers in each line that is not blank.

    Args:
      path: a file of ASCII text, its numbers separated by blanks.

    Returns:
      For each line its numbers, [count] float64 and finite; at least one line.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is empty, no text, or holds anything but finite numbers.
    """
    name = regular.shown(path)
    with regular.open_file(path) as file:
        text = _decoded(regular.read_text(file, name), "ascii", name)
    found = [
        _numbers(line, path, number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not found:
        raise ValueError(f"{path}: expected numbers, got an empty file")
    return found


def rectangle(lines: list[np.ndarray], path: pathlib.Path, width: int) -> np.ndarray:
    """Stacks lines of one length.

    Args:
      lines: [count] each, at least one, as `lines` reads them.
      path: where they are from, for the error.
      width: the length that each must have.

    Returns:
      [number of lines, width] float64.

    Raises:
      ValueError: if a line has another length.
    """
    for number, line in enumerate(lines, 1):
        if line.size != width:
            raise ValueError(
                f"{path}: expected {width} numbers in each row, "
                f"got {line.size} in row {number}"
            )
    return np.stack(lines)


def header(line: np.ndarray, path: pathlib.Path, what: str) -> list[int]:
    """The two sizes in a file's first line.

    Args:
      line: [count], the numbers of the line.
      path: where it is from, for the error.
      what: what the sizes are, for the error, such as "the numbers of rows and of
        columns".

    Returns:
      Two integers of at least one.

    Raises:
      ValueError: if the line holds anything else.
    """
    if line.size != 2 or (line % 1 != 0).any() or line.min() < 1:
        raise ValueError(f"{path}: expected {what} in line 1, got {line.tolist()}")
    return [int(size) for size in line]
