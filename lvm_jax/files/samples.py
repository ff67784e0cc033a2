"""A user's own samples: read from text, NumPy's or SciPy's files, and checked.

Every error is a ValueError of one line, the file, what was expected and what came,
or an OSError where the file cannot be opened. Nothing is ever unpickled, and sizes
are compared with the file before memory is taken for them.
"""

import codecs
import csv
import io
import itertools
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse

from lvm_jax.files import npy, regular

_LARGEST = float(np.finfo(np.float32).max)
_MAX_BYTES = 8 * 2**30  # of samples, as they are returned

_DELIMITERS = "\t;,"  # the first of them that is in the first line, else blanks
_BLANK = " \t\n"
_MISSING = {"", "na", "<na>", "n/a", "nan", "null", "none", "inf", "infinity"}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# All that numbers and what separates them are written with.
_PLAIN = b'0123456789+-.eE,;\t \n"'

_DTYPE_KINDS = {
    "c": "complex numbers",
    "M": "dates",
    "m": "time spans",
    "O": "Python objects",
    "S": "strings",
    "T": "strings",
    "U": "strings",
}
_CHOSEN = ("samples", "x")  # of several arrays
_SPARSE = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "coo": ("row", "col"),
}


def read_samples(path: str | os.PathLike) -> np.ndarray:
    """Reads samples, one a row.

    `.csv` and `.txt` are UTF-8 text: numbers separated by commas, semicolons, tabs or
    blanks, whichever the first line has, with or without a header. A first line is a
    header if none of its cells is a number. Rows are counted as lines of the file,
    from 1. `.npy` is an array, `.npz` one array, or several of which one is named
    `samples` or else `x`, or a sparse matrix (csr, csc, coo) of
    `scipy.sparse.save_npz`.

    Samples of more than 8 GiB are refused, text of more than 2 GiB, and members of a
    `.npz` that are larger than 64 MiB and 1000 times what they are compressed to.

    Args:
      path: the file. Upper and lower case of its suffix are the same.

    Returns:
      [N, D], neither of them zero. bool of bool arrays, the integers of integer
      arrays, int64 of text whose cells are all integers that fit, else float64; all
      finite and within float32's range.

    Raises:
      OSError: if the file cannot be opened.
      ValueError: if it is anything else, or damaged, or lacks a value.
    """
    path = pathlib.Path(path)
    name = regular.shown(path)
    with regular.open_file(path) as file:
        suffix = path.suffix.lower()
        if suffix not in _READERS:
            raise ValueError(
                f"{name}: expected a file {', '.join(_READERS)}, "
                f"got {_shown(suffix) if suffix else 'one without a suffix'}"
            )
        return _READERS[suffix](file, name)


def read_names(path: str | os.PathLike) -> list[str] | None:
    """Reads the names of the variables: the header of a text file of samples.

    A name that is there before gets its place, from 1, and so does an empty one; what
    cannot be printed is left out.

    Args:
      path: a file of `read_samples`.

    Returns:
      [D]; None where the file has no header.

    Raises:
      OSError: if the file cannot be opened.
      ValueError: if it is text that `read_samples` refuses by its first row.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".csv", ".txt"):
        return None
    name = regular.shown(path)
    with regular.open_file(path) as file:
        text = _text(file, name)
    delimiter = _delimiter(text)
    _, first = next(_rows(_without_blank_end(text, delimiter), delimiter, 1, name))
    if not _is_header(first):
        return None
    names = []
    for place, cell in enumerate(first, 1):
        own = " ".join("".join(filter(str.isprintable, part)) for part in cell.split())
        names.append(f"{own} ({place})" if own in names else own or f"x{place}")
    return names


def check_binary(samples: Any, name: str) -> np.ndarray:
    """Binary samples, of booleans or of numbers that are all 0 or 1.

    Args:
      samples: [N, D] array, of NumPy or of JAX.
      name: what they are called in an error.

    Returns:
      [N, D] bool.

    Raises:
      ValueError: if there is another value (the first of them is named with its row
        and column, from 1), another shape, or none at all.
    """
    samples = _matrix(samples, name)
    if samples.dtype == bool:
        return samples
    _refuse_where(
        (samples != 0) & (samples != 1), samples, f"{name}: expected zeros and ones"
    )
    return samples == 1


def check_finite(samples: Any, name: str) -> np.ndarray:
    """Real samples, without missing or infinite values, within float32's range.

    Args:
      samples: [N, D] array, of NumPy or of JAX.
      name: what they are called in an error.

    Returns:
      [N, D] float64.

    Raises:
      ValueError: if there is another value (the first of them is named with its row
        and column, from 1), another shape, or none at all.
    """
    samples = _matrix(samples, name)
    with np.errstate(over="ignore"):  # of long doubles: refused as infinite
        values = np.asarray(samples, np.float64)
    _refuse_where(~np.isfinite(values), values, f"{name}: expected finite numbers")
    _refuse_where(
        np.abs(values) > _LARGEST,
        values,
        f"{name}: expected numbers up to {_LARGEST:.2g}, as float32 has",
    )
    return values


def _matrix(samples: Any, name: str) -> np.ndarray:
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: expected an array, got {type(samples).__name__}"
        ) from error
    _check_dtype(samples.dtype, name)
    if samples.ndim != 2 or not samples.size:
        raise ValueError(
            f"{name}: expected samples [N, D], got an array of shape {samples.shape}"
        )
    return samples


def _check_dtype(dtype: np.dtype, name: str) -> None:
    # By what it can be cast to: JAX's bfloat16 has a kind of its own.
    if not np.can_cast(dtype, np.float64, "same_kind"):
        kind = "fields" if dtype.names else _DTYPE_KINDS.get(dtype.kind, str(dtype))
        raise ValueError(f"{name}: expected numbers, got an array of {kind}")


def _refuse_where(wrong: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Names the first value that is wrong, row by row."""
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        raise ValueError(
            f"{expected}, got {values[row, column]} in row {row + 1}, "
            f"column {column + 1}"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# Text.


def _read_text(file: BinaryIO, name: str) -> np.ndarray:
    text = _text(file, name)
    delimiter = _delimiter(text)
    text = _without_blank_end(text, delimiter)
    (_, first), *second = itertools.islice(_rows(text, delimiter, 1, name), 2)
    _check_first(first, name)
    if not _is_header(first):
        if second and _are_column_numbers(first, second[0][1]):
            raise ValueError(
                f"{name}: expected a sample in row 1, got the numbers from 0 to "
                f"{len(first) - 1} above fractions, a header?"
            )
        return _values(text, delimiter, 1, len(first), name)
    if not second:
        raise ValueError(f"{name}: expected samples after a header, got a header alone")
    row = second[0][0]
    return _values(text.split(b"\n", row - 1)[-1], delimiter, row, len(first), name)


def _text(file: BinaryIO, name: str) -> bytes:
    """UTF-8 that is not blank, without a BOM, its line ends LF."""
    text = regular.read_text(file, name)
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{name}: expected UTF-8 text, got UTF-16")
    if b"\0" in text:
        raise ValueError(
            f"{name}: expected UTF-8 text, got NUL bytes, as binary data and UTF-16 "
            "have them"
        )
    text = text.removeprefix(codecs.BOM_UTF8)
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        row = text.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}: expected UTF-8 text, got byte {text[error.start]:#x} in row {row}"
        ) from error
    if not text.strip(_BLANK.encode()):
        raise ValueError(f"{name}: expected samples, got an empty file")
    return text


def _delimiter(text: bytes) -> str:
    """Of the first line, in which quoted cells may hold anything, line ends too."""
    line = re.match(rb'(?:[^"\n]+|"[^"]*")*', text)[0]
    unquoted = re.sub(rb'"[^"]*"', b"", line)
    return next((mark for mark in _DELIMITERS if mark.encode() in unquoted), " ")


def _without_blank_end(text: bytes, delimiter: str) -> bytes:
    """The lines up to the last that is not blank, nor holds tabs between cells."""
    blank = _BLANK.replace("\t", "") if delimiter == "\t" else _BLANK
    end = text.find(b"\n", len(text.rstrip(blank.encode())))
    return text if end < 0 else text[:end]


def _rows(
    text: bytes, delimiter: str, first: int, name: str
) -> Iterator[tuple[int, list[str]]]:
    """The number of each row's first line, and its cells."""
    lines = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="\n")
    if delimiter == " ":
        lines = (line.replace("\t", " ").strip(" \n") for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    row = first
    try:
        for cells in reader:
            yield row, cells
            row = first + reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{name}: expected cells in row {row}, got a quotation mark or a cell "
            "without an end"
        ) from error


def _check_first(cells: list[str], name: str) -> None:
    if not "".join(cells).strip(_BLANK) and len(cells) < 2:
        raise ValueError(f"{name}: expected cells in row 1, got a blank line")
    label = cells[0].strip(_BLANK)
    if len(cells) > 1 and label in ("", "Unnamed: 0"):
        raise ValueError(
            f"{name}: expected a name or a number in row 1, column 1, "
            f"got {_shown(label) if label else 'an empty cell'} "
            "(an unnamed first column, an index?)"
        )


def _is_header(cells: list[str]) -> bool:
    cells = [cell.strip(_BLANK) for cell in cells]
    return not any(_NUMBER.fullmatch(cell) for cell in cells) and not all(
        cell.lower().lstrip("+-") in _MISSING for cell in cells
    )


def _are_column_numbers(first: list[str], second: list[str]) -> bool:
    """Whether the first row is what pandas writes above an array of fractions."""
    return (
        len(first) > 2
        and [cell.strip(_BLANK) for cell in first] == list(map(str, range(len(first))))
        and all(set(cell) & set(".eE") for cell in second)
    )


def _values(
    text: bytes, delimiter: str, first: int, width: int, name: str
) -> np.ndarray:
    """Numbers of rows without a header: by the short way if all is well with them."""
    if not text.translate(None, _PLAIN):
        is_integer = not any(mark in text for mark in (b".", b"e", b"E"))
        rows = _rows(text, delimiter, first, name)
        values = _plain_values(rows, width, int if is_integer else float)
        if values is not None:
            return values.reshape(-1, width)
    rows = _rows(text, delimiter, first, name)
    return np.fromiter(_exact_values(rows, width, name), np.float64).reshape(-1, width)


def _plain_values(
    rows: Iterator[tuple[int, list[str]]], width: int, parse: Callable[[str], float]
) -> np.ndarray | None:
    """All cells in one array, or None if anything is amiss."""
    cells = itertools.chain.from_iterable(
        row if len(row) == width else [""] for _, row in rows
    )
    dtype = np.int64 if parse is int else np.float64
    try:
        values = np.fromiter(map(parse, cells), dtype)
    except (ValueError, OverflowError):
        return None
    is_in_range = values.min() >= -_LARGEST and values.max() <= _LARGEST
    return values if is_in_range else None


def _exact_values(
    rows: Iterator[tuple[int, list[str]]], width: int, name: str
) -> Iterator[float]:
    """All cells one by one, up to the first that is none."""
    for row, cells in rows:
        if len(cells) != width:
            got = len(cells) if "".join(cells) or len(cells) > 1 else "a blank line"
            raise ValueError(
                f"{name}: expected {width} cell{'s' * (width > 1)}, as in the first "
                f"row, got {got} in row {row}"
            )
        for column, cell in enumerate(cells, 1):
            yield _number(cell.strip(_BLANK), f"row {row}, column {column}", name)


def _number(cell: str, place: str, name: str) -> float:
    if not _NUMBER.fullmatch(cell):
        got = _shown(cell) if cell else "an empty cell"
        raise ValueError(f"{name}: expected a finite number, got {got} in {place}")
    value = float(cell)
    if abs(value) > _LARGEST:
        raise ValueError(
            f"{name}: expected numbers up to {_LARGEST:.2g}, as float32 has, "
            f"got {_shown(cell)} in {place}"
        )
    return value


# Arrays.


def _read_npy(file: BinaryIO, name: str) -> np.ndarray:
    return _samples(_array(file, regular.num_bytes(file), name), name)


def _samples(array: np.ndarray, name: str) -> np.ndarray:
    """The samples of an array from a file, as NumPy's own numbers in rows."""
    array = _matrix(array, name)
    if array.dtype.kind not in "biu":
        array = check_finite(array, name)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _array(
    file: BinaryIO, num_bytes: int, name: str, is_text: bool = False
) -> np.ndarray:
    """An array of numbers, or of text, in as many bytes of .npy as are there."""
    shape, dtype = npy.read_header(file, num_bytes, name)
    if not (is_text and dtype.kind in "SU" and dtype.itemsize):
        _check_dtype(dtype, name)
    _check_size(shape, dtype, name)
    return npy.read(file, name)


def _check_size(shape: Sequence[int], dtype: np.dtype, name: str) -> None:
    num_bytes = math.prod(shape) * (dtype.itemsize if dtype.kind in "biu" else 8)
    if num_bytes > _MAX_BYTES:
        raise ValueError(
            f"{name}: expected at most {_MAX_BYTES:,} bytes of samples, "
            f"got {num_bytes:,} of shape {tuple(shape)}"
        )


# Archives of arrays.


def _read_npz(file: BinaryIO, name: str) -> np.ndarray:
    archive = npy.open_archive(file, name)
    names = [
        info.filename.removesuffix(npy.SUFFIX)
        for info in archive.infolist()
        if info.filename.endswith(npy.SUFFIX)
    ]
    chosen = next((key for key in _CHOSEN if key in names), None)
    if chosen is None and {"format", "shape", "data"} <= {*names}:
        return _samples(_dense(archive, names, name), name)
    if chosen is None and len(names) == 1:
        chosen = names[0]
    if chosen is None or names.count(chosen) > 1:
        found = ", ".join(_shown(key) for key in sorted(names)[:10])
        raise ValueError(
            f"{name}: expected one array, or one named {' or '.join(_CHOSEN)}, "
            f"got {f'{len(names)}: {found}' if names else 'none'}"
        )
    return _samples(_member(archive, chosen, name), name)


def _member(
    archive: zipfile.ZipFile, key: str, name: str, is_text: bool = False
) -> np.ndarray:
    info = archive.getinfo(f"{key}{npy.SUFFIX}")
    npy.check_members(archive, [info], name)
    with npy.open_member(archive, info, name) as file:
        return _array(file, info.file_size, name, is_text)


def _dense(archive: zipfile.ZipFile, names: list[str], name: str) -> np.ndarray:
    """A matrix of scipy.sparse, its duplicate entries added up."""
    layout = _layout(archive, names, name)
    shape = _indices(archive, "shape", name)
    if shape.size != 2 or shape.min() < 1:
        raise ValueError(f"{name}: expected samples [N, D], got shape {shape.tolist()}")
    shape = tuple(shape.tolist())
    data = _member(archive, "data", name)
    _check_size(shape, data.dtype, name)
    if data.dtype.kind not in "biu":
        with np.errstate(over="ignore"):  # refused as infinite
            data = data.astype(np.float64)
    first, second = (_indices(archive, key, name) for key in _SPARSE[layout])
    if data.shape != first.shape:
        raise ValueError(
            f"{name}: expected an index for each entry, got {first.size} for data of "
            f"shape {data.shape}"
        )
    place = _place(layout, first, second, shape, name)
    data = data[: place[0].size]  # what lies behind the last pointer is unused
    return scipy.sparse.coo_array((data, place), shape=shape).toarray()


def _layout(archive: zipfile.ZipFile, names: list[str], name: str) -> str:
    layout = _member(archive, "format", name, is_text=True).tolist()
    layout = layout.decode("latin-1") if isinstance(layout, bytes) else str(layout)
    if layout not in _SPARSE:
        raise ValueError(
            f"{name}: expected a sparse matrix of format {', '.join(_SPARSE)}, "
            f"got {_shown(layout)}"
        )
    absent = [key for key in _SPARSE[layout] if key not in names]
    if absent:
        raise ValueError(
            f"{name}: expected a sparse matrix of format {layout}, "
            f"got no {' and no '.join(absent)}"
        )
    return layout


def _indices(archive: zipfile.ZipFile, key: str, name: str) -> np.ndarray:
    values = _member(archive, key, name)
    if values.dtype.kind != "i" or values.ndim != 1:
        raise ValueError(
            f"{name}: expected a vector of integers as {key}, "
            f"got {values.dtype} of shape {values.shape}"
        )
    return values.astype(np.int64)


def _place(
    layout: str,
    first: np.ndarray,
    second: np.ndarray,
    shape: tuple[int, int],
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each entry, inside the shape."""
    if layout == "csr":
        row = _major(second, shape[0], first.size, name)
        column = first[: row.size]
    elif layout == "csc":
        column = _major(second, shape[1], first.size, name)
        row = first[: column.size]
    else:
        row, column = first, second
    if row.shape != column.shape:
        raise ValueError(
            f"{name}: expected as many rows as columns of entries, got {row.size} and "
            f"{column.size}"
        )
    for what, index, count in [("row", row, shape[0]), ("column", column, shape[1])]:
        outside = index[(index < 0) | (index >= count)]
        if outside.size:
            raise ValueError(
                f"{name}: expected indices from 0 to {count - 1}, "
                f"got {what} {outside[0]}"
            )
    return row, column


def _major(pointers: np.ndarray, count: int, num_entries: int, name: str) -> np.ndarray:
    """The row of each entry, or its column, by where they begin.

    SciPy's own check lets pointers pass that point outside of the entries.
    """
    if (
        pointers.size != count + 1
        or pointers[0] != 0
        or (pointers[1:] < pointers[:-1]).any()
        or pointers[-1] > num_entries
    ):
        raise ValueError(
            f"{name}: expected indptr to rise from 0 to at most {num_entries} in "
            f"{count} steps, got another"
        )
    return np.repeat(np.arange(count), np.diff(pointers))


_READERS = {
    ".csv": _read_text,
    ".txt": _read_text,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
