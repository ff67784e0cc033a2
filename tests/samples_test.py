"""A user's samples are read as they are, or refused in one line that says where."""

import io
import os
import pickle
import re
import struct
import zipfile
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import lvm_jax
from lvm_jax.files import samples
from lvm_jax.files.samples import check_binary, check_finite, read_samples

_BINARY = np.random.default_rng(0).integers(0, 2, (7, 5))


def _write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _refusal(path) -> str:
    """What a file is refused for, after its path."""
    with pytest.raises(ValueError) as error:
        read_samples(path)
    text = str(error.value)
    assert text.startswith(f"{path}: expected ") and ", got " in text
    assert text.isprintable()
    return text.removeprefix(f"{path}: ")


# Text.


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", "   ", " , "])
@pytest.mark.parametrize("header", [None, ["a", "b_2", "größe"]])
@pytest.mark.parametrize("suffix", [".csv", ".TXT"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_is_read_however_it_is_written(
    tmp_path, end, delimiter, header, suffix, encoding
):
    rows = [["1", "0", "-2"], ["+3", "4", "5"]]
    lines = [delimiter.join(cells) for cells in ([header] if header else []) + rows]
    for closing in ("", end, end + " " + end + end):
        content = end.join(lines) + closing
        read = read_samples(_write(tmp_path / f"x{suffix}", content.encode(encoding)))
        np.testing.assert_array_equal(read, [[1, 0, -2], [3, 4, 5]])
        assert read.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "expected", "dtype"),
    [
        ("1,2\n3,4.0\n", [[1, 2], [3, 4]], float),
        ("1,2\n3,4e1\n", [[1, 2], [3, 40]], float),
        (".5,1.\n-1E-2,+7\n", [[0.5, 1], [-0.01, 7]], float),
        ("e,E.\n1,2\n", [[1, 2]], int),
        ('"a, b","c"\n"1","2"\n', [[1, 2]], int),
        ('"a\nb",c\n1,2\n', [[1, 2]], int),
        ('"a;b\n\nc",d\n1,2.5\n', [[1, 2.5]], float),
        ('"say ""a""";b\n1;2\n', [[1, 2]], int),
        ("a b,c d\n1,2\n", [[1, 2]], int),
        ("height, cm\tb\n1\t2\n", [[1, 2]], int),
        ("a,NA,c\n1,2,3\n", [[1, 2, 3]], int),
        ("a,,c\n1,2,3\n", [[1, 2, 3]], int),
        ("x\n1\n2\n", [[1], [2]], int),
        ("1\n2\n", [[1], [2]], int),
        ("5", [[5]], int),
        ("1 2\n3\t4 \n", [[1, 2], [3, 4]], int),
        ("0,1,2\n3,4,5\n", [[0, 1, 2], [3, 4, 5]], int),
        ("9223372036854775807\n", [[2**63 - 1]], int),
        ("9223372036854775808,1\n", [[2.0**63, 1]], float),
        ("1" + "0" * 5000 + "e-5000\n", [[1]], float),
    ],
)
def test_cells_are_numbers(tmp_path, content, expected, dtype):
    read = read_samples(_write(tmp_path / "x.csv", content))
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.dtype(dtype)


@pytest.mark.parametrize("suffix", ["csv", "txt"])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_what_numpy_writes_as_text_comes_back(tmp_path, suffix, scale):
    values = np.random.default_rng(0).normal(size=(20, 6)) * scale
    path = tmp_path / f"x.{suffix}"
    np.savetxt(path, values, delimiter="," if suffix == "csv" else " ")
    np.testing.assert_array_equal(read_samples(path), values)


def test_what_pandas_writes_without_an_index_comes_back(tmp_path):
    path = _write(tmp_path / "x.csv", "pixel 0,pixel 1\n0.1,2.5e-05\n-3.0,4.0\n")
    np.testing.assert_array_equal(read_samples(path), [[0.1, 2.5e-5], [-3, 4]])


@pytest.mark.parametrize("width", [1, 3])
def test_a_large_text_is_read_as_a_small_one(tmp_path, width):
    values = np.random.default_rng(0).integers(0, 2, (30_000, width))
    path = tmp_path / "x.csv"
    np.savetxt(path, values, fmt="%d", delimiter=",")
    np.testing.assert_array_equal(read_samples(path), values)


@pytest.mark.parametrize(
    "cell",
    [
        *("NA", "nan", "NaN", "None", "null", "inf", "-Infinity", "#N/A", "abc"),
        *("1_0", "1 2", "1,5", "0x10", "1d5", "--1", "1e", "True", "\u0661", "1\xa0"),
    ],
)
@pytest.mark.parametrize("header", ["", "a;b\n"])
def test_a_cell_that_is_no_number_is_named(tmp_path, cell, header):
    path = _write(tmp_path / "x.csv", f"{header}1;2\n3;4\n5;{cell}\n")
    row = 4 if header else 3
    assert _refusal(path) == (
        f"expected a finite number, got {cell!r} in row {row}, column 2"
    )


@pytest.mark.parametrize("content", ["1,2\n3,\n", "1,2\n3, \n", '1,2\n3,""\n'])
def test_an_empty_cell_is_named(tmp_path, content):
    assert _refusal(_write(tmp_path / "x.csv", content)) == (
        "expected a finite number, got an empty cell in row 2, column 2"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,NA\n1,2,3\n", "a finite number, got 'NA' in row 1, column 3"),
        ("1,b,3\n1,2,3\n", "a finite number, got 'b' in row 1, column 2"),
        ("x1,2,x3\n1,2,3\n", "a finite number, got 'x1' in row 1, column 1"),
        ("nan,NA\n1,2\n", "a finite number, got 'nan' in row 1, column 1"),
        ("1,2\n1,3.5e38\n", "up to 3.4e+38, as float32 has, got '3.5e38' in row 2"),
        ("1,2\n-1e400,3\n", "up to 3.4e+38, as float32 has, got '-1e400' in row 2"),
        ("1,2\n" + "9" * 5000 + ",3\n", "as float32 has, got '999"),
        ("1,2\n3\n", "2 cells, as in the first row, got 1 in row 2"),
        ("a,b\n\n1,2\n", "2 cells, as in the first row, got a blank line in row 2"),
        ("1,2\n \n3,4\n", "2 cells, as in the first row, got a blank line in row 2"),
        ("1,2\n,,\n", "2 cells, as in the first row, got 3 in row 2"),
        ("1,2\n3,4,5\n", "2 cells, as in the first row, got 3 in row 2"),
        ("1\n2 3\n", "1 cell, as in the first row, got 2 in row 2"),
        ("a,b,c\n1,2\n", "3 cells, as in the first row, got 2 in row 2"),
        ('"a\nb",c\n1,2\n3\n', "2 cells, as in the first row, got 1 in row 4"),
        ('"a\nb",c\n1,2\n3,x\n', "a finite number, got 'x' in row 4, column 2"),
        ("1\t2\n\t\n", "a finite number, got an empty cell in row 2, column 1"),
        ("", "samples, got an empty file"),
        ("\ufeff", "samples, got an empty file"),
        (" \r\n\t\n", "samples, got an empty file"),
        ("\n1,2\n", "cells in row 1, got a blank line"),
        ("a,b\n", "samples after a header, got a header alone"),
        ("a,b", "samples after a header, got a header alone"),
        ("1,2\n3,\0\n", "UTF-8 text, got NUL bytes"),
        ('1,2\n3,"4\n', "cells in row 2, got a quotation mark"),
        ('"a,b\n1,2\n', "cells in row 1, got a quotation mark"),
        ('1,2\n3,"4"5\n', "cells in row 2, got a quotation mark"),
        ('a,"b\n' + "1,2\n" * 50_000, "cells in row 1, got a quotation mark or a cell"),
    ],
)
def test_malformed_text_is_refused(tmp_path, content, message):
    assert message in _refusal(_write(tmp_path / "x.csv", content))


@pytest.mark.parametrize(
    "first", [",a,b", '"","a","b"', ",0,1", "Unnamed: 0,a,b", ",1,2"]
)
def test_an_index_is_refused(tmp_path, first):
    path = _write(tmp_path / "x.csv", f"{first}\n0,1.5,2.5\n")
    assert _refusal(path).endswith("(an unnamed first column, an index?)")


def test_numbers_of_columns_above_fractions_are_refused(tmp_path):
    path = _write(tmp_path / "x.csv", "0,1,2\n0.5,1.0,2.0\n")
    assert "the numbers from 0 to 2 above fractions" in _refusal(path)
    _write(path, "0,1,2\n0.5,1,2.0\n")
    assert read_samples(path).shape == (2, 3)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named(tmp_path, encoding):
    path = _write(tmp_path / "x.csv", "1,2\n3,4\n".encode(encoding))
    assert re.match("expected UTF-8 text, got .*UTF-16", _refusal(path))


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08\x01\x02", b"PK\x03\x04\x14\0", b"a\n\xff\n"],
)
def test_binary_data_are_no_text(tmp_path, content):
    path = _write(tmp_path / "x.csv", content)
    assert _refusal(path).startswith("expected UTF-8 text, got ")


def test_a_byte_that_is_no_text_is_named(tmp_path):
    path = _write(tmp_path / "x.csv", "a,größe\r1,2\r".encode("latin-1"))
    assert _refusal(path) == "expected UTF-8 text, got byte 0xf6 in row 1"


def test_a_long_cell_is_refused_in_short(tmp_path):
    path = _write(tmp_path / "x.csv", f"1,2\n{'9' * 100_000}x,4\n")
    assert len(_refusal(path)) < 150


def test_text_beyond_the_limit_is_refused_unread(tmp_path):
    path = _write(tmp_path / "x.csv", "1,2\n")
    os.truncate(path, 2**31 + 1)
    assert "text of at most 2,147,483,648 bytes" in _refusal(path)


_TOKENS = ["0", "1", " 1", '"1"', "-2", "0.5", "1e3", "", '""', "1 2", "9" * 20, "x"]


@pytest.mark.parametrize("seed", range(3))
def test_the_short_way_through_text_is_the_exact_one(tmp_path, monkeypatch, seed):
    random = np.random.default_rng(seed)
    weights = np.array([5.0] * 7 + [0.3] * 5)
    path = tmp_path / "x.csv"

    def outcome():
        try:
            return read_samples(path).tolist()
        except ValueError as error:
            return str(error)

    for _ in range(100):
        cells = random.choice(_TOKENS, (3, 2), p=weights / weights.sum())
        _write(path, "\n".join(",".join(row) for row in cells))
        short = outcome()
        with monkeypatch.context() as patch:
            patch.setattr(samples, "_plain_values", lambda *_: None)
            assert outcome() == short


# Arrays.


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8"])
def test_arrays_come_back(tmp_path, order, byte_order, kind):
    array = np.array(_BINARY, dtype=byte_order + kind, order=order)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.NPZ.npz", array)
    np.savez_compressed(tmp_path / "y.npz", anything=array)
    native = array.dtype.newbyteorder("=")
    for name in ("x.npy", "x.NPZ.npz", "y.npz"):
        read = read_samples(tmp_path / name)
        np.testing.assert_array_equal(read, _BINARY)
        assert read.dtype == (np.float64 if kind[0] == "f" else native)
        assert read.dtype.isnative and read.flags.c_contiguous


def test_suffixes_have_no_case(tmp_path):
    np.save(tmp_path / "x.npy", _BINARY)
    (tmp_path / "x.npy").rename(tmp_path / "x.NPY")
    np.testing.assert_array_equal(read_samples(str(tmp_path / "x.NPY")), _BINARY)


@pytest.mark.parametrize("name", ["samples", "x"])
def test_the_array_of_samples_is_read_among_others(tmp_path, name):
    np.savez(tmp_path / "x.npz", **{name: _BINARY, "y": np.zeros(3), "a": np.eye(2)})
    np.testing.assert_array_equal(read_samples(tmp_path / "x.npz"), _BINARY)


def test_samples_come_before_x(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.eye(2), samples=_BINARY)
    np.testing.assert_array_equal(read_samples(tmp_path / "x.npz"), _BINARY)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), "samples [N, D], got an array of shape (3,)"),
        (np.zeros((2, 3, 4)), "samples [N, D], got an array of shape (2, 3, 4)"),
        (np.float64(1), "samples [N, D], got an array of shape ()"),
        (np.zeros((0, 3)), "samples [N, D], got an array of shape (0, 3)"),
        (np.zeros((3, 0)), "samples [N, D], got an array of shape (3, 0)"),
        (np.zeros((2, 2), complex), "numbers, got an array of complex numbers"),
        (np.array([["a", "b"]]), "numbers, got an array of strings"),
        (np.array([[b"a", b"b"]]), "numbers, got an array of strings"),
        (np.zeros((2, 2), "M8[s]"), "numbers, got an array of dates"),
        (np.zeros((2, 2), "m8[s]"), "numbers, got an array of time spans"),
        (np.zeros((2, 2), "i4,f4"), "numbers, got an array of fields"),
        (np.zeros((2, 2), "V4"), "numbers, got an array of |V4"),
        (np.array([[0, 1], [np.nan, 0]]), "finite numbers, got nan in row 2, column 1"),
        (np.array([[0, -np.inf]]), "finite numbers, got -inf in row 1, column 2"),
        (np.array([[0], [1e39]]), "as float32 has, got 1e+39 in row 2, column 1"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", samples=array)
    for name in ("x.npy", "x.npz"):
        assert message in _refusal(tmp_path / name)


class _Unpickled:
    """Notices when it is unpickled."""

    seen: ClassVar[list[int]] = []

    def __reduce__(self):
        return _Unpickled.seen.append, (1,)


@pytest.mark.parametrize("suffix", ["csv", "txt", "npy", "npz"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_read(tmp_path, suffix, protocol):
    _refusal(_write(tmp_path / f"x.{suffix}", pickle.dumps(_Unpickled(), protocol)))
    assert not _Unpickled.seen


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_objects_are_never_unpickled(tmp_path, save):
    path = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(path, np.array([[_Unpickled()]], dtype=object))
    assert _refusal(path) == "expected numbers, got an array of Python objects"
    assert not _Unpickled.seen


def test_several_arrays_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", b=np.eye(2), a=np.eye(2))
    assert _refusal(tmp_path / "x.npz") == (
        "expected one array, or one named samples or x, got 2: 'a', 'b'"
    )


def test_an_archive_without_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz")
    assert _refusal(tmp_path / "x.npz").endswith("got none")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "1,2")
    assert _refusal(tmp_path / "x.npz").endswith("got none")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_of_which_there_are_two_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("samples.npy", _npy(_BINARY))
        archive.writestr("samples.npy", _npy(_BINARY))
    assert _refusal(tmp_path / "x.npz").endswith("got 2: 'samples', 'samples'")


def _npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _claim(shape, descr="<f8", body=b"") -> bytes:
    """An .npy whose header says what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"
    size = struct.pack("<H", len(header))
    return b"\x93NUMPY\x01\x00" + size + header.encode() + body


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_claim((10**6, 6250)), "expected 50,000,000,000 bytes"),
        (_claim((10**18, 10**18)), "bytes for an array of shape (1000000000000000000,"),
        (_claim((10**4000, 10**4000)), "truncated or damaged"),
        (_claim((-2, -3), body=bytes(48)), "truncated or damaged"),
        (_claim((1,) * 3000), "truncated or damaged"),
        (_claim("(2, 3), 4: 5"), "truncated or damaged"),
        (_claim((2, 3), ()), "truncated or damaged"),
        (_claim((2, 3), "<,f8"), "truncated or damaged"),
        (_claim("(" * 4000), "truncated or damaged"),
        (_claim("-" * 9000 + "1"), "truncated or damaged"),
        (_claim((2, 3), "zz"), "truncated or damaged"),
        (_claim((2, 3), "?", b"\0\1\0\2\0\1"), "expected booleans, got 2"),
        (
            _npy(_BINARY)[:-1],
            "expected 280 bytes for an array of shape (7, 5), got 279",
        ),
        (_npy(_BINARY) + b"\0", "expected 280 bytes"),
        (_npy(_BINARY)[:50], "truncated or damaged"),
        (_npy(_BINARY)[:5], "truncated or damaged"),
        (b"\x93NUMPY\x03\x00" + _npy(_BINARY)[8:], "truncated or damaged"),
        (b"", "truncated or damaged"),
        (b"1,2\n3,4\n", "truncated or damaged"),
    ],
)
def test_a_damaged_array_is_refused(tmp_path, suffix, content, message):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        _write(path, content)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("samples.npy", content)
    assert message in _refusal(path)


def test_a_header_of_python_2_is_read(tmp_path):
    path = _write(tmp_path / "x.npy", _claim("(2L, 3L)", "<i8", bytes(48)))
    np.testing.assert_array_equal(read_samples(path), np.zeros((2, 3)))


def test_an_array_beyond_the_limit_is_refused_unread(tmp_path):
    path = _write(tmp_path / "x.npy", _claim((2**30, 2), "<f4"))
    os.truncate(path, len(_claim((2**30, 2), "<f4")) + 2**33)
    assert "at most 8,589,934,592 bytes of samples, got 17,179,869,184" in _refusal(
        path
    )


# Archives.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_archive_is_refused(tmp_path, save):
    save(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(50, 4)))
    whole = (tmp_path / "x.npz").read_bytes()
    path = tmp_path / "damaged.npz"
    for cut in range(0, len(whole), 40):
        assert _refusal(_write(path, whole[:cut])).endswith("truncated or damaged file")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    assert _refusal(_write(path, bytes(flipped))).endswith("truncated or damaged file")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".npy", ".npz"])
def test_random_damage_is_refused_in_one_line_or_read_as_numbers(tmp_path, suffix):
    random = np.random.default_rng(0)
    path = tmp_path / f"x{suffix}"
    if suffix in (".csv", ".txt"):
        whole = b'"a",b\n1,2.5\n3,4\n'
    elif suffix == ".npy":
        whole = _npy(np.eye(3))
    else:
        scipy.sparse.save_npz(path, scipy.sparse.csr_array(np.eye(3)))
        whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        _write(path, bytes(damaged))
        try:
            read = read_samples(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected ")
            assert str(error).isprintable()
        else:
            assert read.ndim == 2 and read.size and np.isfinite(read).all()


def _patch_sizes(path, packed, size):
    """Lets the directory of an archive of one member claim other sizes."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, packed, size)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("packed", "size", "message"),
    [
        (None, 2**32 - 2, "packed at most 1000 times, got 4,294,967,294 packed in"),
        (2**31, 2**32 - 2, "expected 2,147,483,648 bytes of arrays, got a file of"),
        (None, 10_000, "expected 280 bytes for an array of shape (7, 5), got 9,872"),
        (None, 20, "truncated or damaged"),
    ],
)
def test_an_archive_that_claims_other_sizes_is_refused(tmp_path, packed, size, message):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=_BINARY)
    with zipfile.ZipFile(path) as archive:
        found = archive.getinfo("x.npy").compress_size
    _patch_sizes(path, packed or found, size)
    assert message in _refusal(path)


def test_a_zip_bomb_is_refused_and_rare_ones_are_not(tmp_path):
    shape = (20_000, 500)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(shape))
    assert "packed at most 1000 times, got 80,000,128" in _refusal(
        tmp_path / "bomb.npz"
    )
    rare = np.zeros(shape, np.int64)
    rare.flat[np.random.default_rng(0).integers(rare.size, size=1000)] = 1
    np.savez_compressed(tmp_path / "rare.npz", x=rare)
    assert read_samples(tmp_path / "rare.npz").sum() == rare.sum()


def test_a_small_archive_of_zeros_is_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 1000)))
    assert not read_samples(tmp_path / "x.npz").any()


def test_a_member_that_would_end_behind_the_file_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    header = _claim((158, 1), "|i1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header + bytes(50))
    length = path.stat().st_size  # as many bytes as the array claims to have
    assert length == len(header) + 158
    _patch_sizes(path, length, length)
    assert _refusal(path).endswith("truncated or damaged file")


def test_other_compressions_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", _npy(_BINARY))
    assert "stored or deflated" in _refusal(tmp_path / "x.npz")


# Sparse matrices.

_LAYOUTS = [
    scipy.sparse.csr_matrix,
    scipy.sparse.csc_matrix,
    scipy.sparse.coo_matrix,
    scipy.sparse.csr_array,
    scipy.sparse.csc_array,
    scipy.sparse.coo_array,
]


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, float])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_matrices_come_back_dense(tmp_path, layout, dtype, compressed):
    path = tmp_path / "x.npz"
    scipy.sparse.save_npz(path, layout(_BINARY.astype(dtype)), compressed)
    read = read_samples(path)
    np.testing.assert_array_equal(read, _BINARY)
    assert read.dtype == (float if np.dtype(dtype).kind == "f" else dtype)
    np.testing.assert_array_equal(read, scipy.sparse.load_npz(path).toarray())


def test_duplicate_entries_are_added_up(tmp_path):
    matrix = scipy.sparse.coo_array(([1, 2, 4], ([0, 0, 1], [1, 1, 0])), shape=(2, 3))
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    np.testing.assert_array_equal(
        read_samples(tmp_path / "x.npz"), [[0, 3, 0], [4, 0, 0]]
    )


def test_a_sparse_matrix_without_entries_is_zeros(tmp_path):
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_array((3, 4)))
    np.testing.assert_array_equal(read_samples(tmp_path / "x.npz"), np.zeros((3, 4)))


def test_entries_behind_the_last_pointer_are_unused(tmp_path):
    parts = {**_parts("csr"), "data": np.ones(4), "indices": np.array([0, 1, 2, 99])}
    np.savez(tmp_path / "x.npz", **parts)
    np.testing.assert_array_equal(read_samples(tmp_path / "x.npz"), np.eye(3))


def _parts(layout):
    index = np.arange(3)
    shared = {"format": layout.encode(), "shape": np.array([3, 3]), "data": np.ones(3)}
    if layout == "coo":
        return {**shared, "row": index, "col": index}
    return {**shared, "indices": index, "indptr": np.arange(4)}


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("coo", {"row": [0, 1, 3]}, "indices from 0 to 2, got row 3"),
        ("coo", {"col": [0, -1, 2]}, "indices from 0 to 2, got column -1"),
        ("coo", {"col": [0, 1]}, "as many rows as columns of entries, got 3 and 2"),
        ("coo", {"row": [0, 1]}, "an index for each entry, got 2"),
        ("coo", {"row": [0.0, 1.0, 2.0]}, "a vector of integers as row, got float64"),
        ("csr", {"indices": [0, 1, 3]}, "indices from 0 to 2, got column 3"),
        ("csc", {"indices": [0, 1, 3]}, "indices from 0 to 2, got row 3"),
        ("csr", {"indices": [0, 1, -(2**40)]}, "indices from 0 to 2, got column"),
        ("csr", {"indptr": [0, 1, 2, 4]}, "indptr to rise from 0 to at most 3"),
        ("csr", {"indptr": [1, 1, 2, 3]}, "indptr to rise from 0 to at most 3"),
        ("csr", {"indptr": [0, 3, 1, 3]}, "indptr to rise from 0 to at most 3"),
        ("csr", {"indptr": [0, 2**40, 0, 0]}, "indptr to rise from 0 to at most 3"),
        ("csc", {"indptr": [0, 2**62, -(2**62) - 1, 3]}, "indptr to rise from 0"),
        ("csr", {"indptr": [0, 1, 3]}, "at most 3 in 3 steps"),
        ("csr", {"data": np.ones((3, 1))}, "for data of shape (3, 1)"),
        ("csr", {"data": 1.0}, "for data of shape ()"),
        ("csr", {"data": [1j, 1, 1]}, "numbers, got an array of complex numbers"),
        ("csr", {"data": [1, np.nan, 1]}, "got nan in row 2, column 2"),
        ("csr", {"shape": [10**6, 10**6]}, "at most 8,589,934,592 bytes of samples"),
        ("coo", {"shape": [2**62, 2**62]}, "at most 8,589,934,592 bytes of samples"),
        ("coo", {"shape": [3, 0]}, "samples [N, D], got shape [3, 0]"),
        ("coo", {"shape": [3, -3]}, "samples [N, D], got shape [3, -3]"),
        ("coo", {"shape": [3, 3, 3]}, "samples [N, D], got shape [3, 3, 3]"),
        ("csr", {"format": b"bsr"}, "format csr, csc, coo, got 'bsr'"),
        ("csr", {"format": b"\xff\n"}, "format csr, csc, coo, got '\xff\\n'"),
        ("csr", {"format": 3}, "format csr, csc, coo, got '3'"),
        ("csr", {"format": [b"csr"]}, "format csr, csc, coo, got \"[b'csr']\""),
        ("csr", {"format": b"coo"}, "format coo, got no row and no col"),
        ("csr", {"format": np.array(b"csr", object)}, "an array of Python objects"),
    ],
)
def test_a_malformed_sparse_matrix_is_refused(tmp_path, layout, change, message):
    np.savez(tmp_path / "x.npz", **{**_parts(layout), **change})
    assert message in _refusal(tmp_path / "x.npz")


def test_other_sparse_formats_are_refused(tmp_path):
    for layout in (scipy.sparse.bsr_array, scipy.sparse.dia_array):
        scipy.sparse.save_npz(tmp_path / "x.npz", layout(np.eye(4)))
        assert "format csr, csc, coo, got" in _refusal(tmp_path / "x.npz")


# Files.


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("x.mat", "'.mat'"),
        ("x.csv.gz", "'.gz'"),
        ("x", "one without a suffix"),
        (".csv", "one without a suffix"),
    ],
)
def test_another_suffix_is_refused(tmp_path, name, got):
    assert _refusal(_write(tmp_path / name, "1,2\n")) == (
        f"expected a file .csv, .txt, .npy, .npz, got {got}"
    )


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ""])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, suffix):
    (tmp_path / f"folder{suffix}").mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    got = {kind: _refusal(tmp_path / f"{kind}{suffix}") for kind in ("folder", "pipe")}
    assert got == {
        "folder": "expected a regular file, got a directory",
        "pipe": "expected a regular file, got a pipe",
    }


def test_a_device_is_refused(tmp_path):
    (tmp_path / "x.csv").symlink_to("/dev/zero")
    assert _refusal(tmp_path / "x.csv") == "expected a regular file, got a device"


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".mat"])
def test_a_missing_file_is_an_os_error(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        read_samples(tmp_path / f"x{suffix}")


def test_a_path_of_two_lines_is_named_in_one(tmp_path):
    path = _write(tmp_path / "a\nb.csv", "1,x\n")
    with pytest.raises(ValueError) as error:
        read_samples(path)
    assert str(error.value).isprintable() and r"a\nb.csv" in str(error.value)


# Checks.


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, float])
@pytest.mark.parametrize("library", [np, jnp])
def test_zeros_and_ones_are_binary(library, dtype):
    checked = check_binary(library.asarray(_BINARY.astype(dtype)), "mine")
    np.testing.assert_array_equal(checked, _BINARY == 1)
    assert isinstance(checked, np.ndarray) and checked.dtype == bool


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan, np.inf])
@pytest.mark.parametrize("library", [np, jnp])
def test_another_value_is_not_binary(library, value):
    array = np.array(_BINARY, type(value))
    array[6, 2] = value
    with pytest.raises(ValueError) as error:
        check_binary(library.asarray(array), "mine")
    assert str(error.value) == (
        f"mine: expected zeros and ones, got {value} in row 7, column 3"
    )


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float16, float, jnp.bfloat16])
@pytest.mark.parametrize("library", [np, jnp])
def test_finite_samples_become_float64(library, dtype):
    checked = check_finite(library.asarray(_BINARY.astype(dtype)), "mine")
    np.testing.assert_array_equal(checked, _BINARY)
    assert isinstance(checked, np.ndarray) and checked.dtype == np.float64


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.nan, "finite numbers, got nan"),
        (-np.inf, "finite numbers, got -inf"),
        (-1e39, "numbers up to 3.4e+38, as float32 has, got -1e+39"),
        (np.longdouble("1e4000"), "finite numbers, got inf"),
    ],
)
def test_another_value_is_not_finite(value, expected):
    array = np.array(_BINARY, np.asarray(value).dtype)
    array[6, 2] = value
    with pytest.raises(ValueError) as error:
        check_finite(array, "mine")
    assert str(error.value) == f"mine: expected {expected} in row 7, column 3"


@pytest.mark.parametrize("check", [check_binary, check_finite])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), "samples [N, D], got an array of shape (3,)"),
        (np.zeros((0, 3)), "samples [N, D], got an array of shape (0, 3)"),
        (np.zeros((2, 2), complex), "numbers, got an array of complex numbers"),
        (np.array([["0", "1"]]), "numbers, got an array of strings"),
        (np.array([[None, 1]]), "numbers, got an array of Python objects"),
        (scipy.sparse.csr_array(_BINARY), "numbers, got an array of Python objects"),
        ([[1, 0], [1]], "an array, got list"),
    ],
)
def test_other_samples_do_not_pass(check, array, message):
    with pytest.raises(ValueError) as error:
        check(array, "mine")
    assert str(error.value) == f"mine: expected {message}"


def test_the_largest_numbers_of_float32_pass(tmp_path):
    largest = float(np.finfo(np.float32).max)
    path = _write(tmp_path / "x.csv", f"{largest!r},{-largest!r}\n")
    np.testing.assert_array_equal(read_samples(path), [[largest, -largest]])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fever,dry  cough\n1,0\n", ["fever", "dry cough"]),
        ('"a, b";c\n1;0\n', ["a, b", "c"]),
        ("\ufeffa\tb\n1\t0\n", ["a", "b"]),
        ("a,,a,b\x1b[0m\n1,0,1,0\n", ["a", "x2", "a (3)", "b[0m"]),
        ("1,0\n0,1\n", None),
    ],
)
def test_names_are_those_of_the_header(tmp_path, text, names):
    path = tmp_path / "samples.csv"
    path.write_text(text, encoding="utf-8")
    assert lvm_jax.read_names(path) == names


def test_arrays_have_no_names(tmp_path):
    np.save(tmp_path / "samples.npy", np.eye(3))
    assert lvm_jax.read_names(tmp_path / "samples.npy") is None
