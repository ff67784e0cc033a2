"""Tables of text come back as they were written, and what is malformed is named."""

import csv
import os

import numpy as np
import pytest

from lvm_jax.files import atomic, table


def test_rows_come_back_with_their_types(tmp_path):
    rows = [
        {"name": "IMG", "level": 8, "elbo": -12.25, "diverged": False},
        {"name": "IMG", "level": "10x10", "elbo": float("nan"), "diverged": True},
    ]
    table.write_rows(tmp_path / "rows.csv", rows)
    back = table.read_rows(tmp_path / "rows.csv")
    assert back[0] == rows[0]
    assert np.isnan(back[1].pop("elbo"))
    assert back[1] == {"name": "IMG", "level": "10x10", "diverged": True}


def test_rows_are_lines_of_csv(tmp_path):
    path = tmp_path / "rows.csv"
    table.write_rows(path, ({"a": n, "b, c": 'x"y'} for n in range(2)))
    assert path.read_bytes() == b'a,"b, c"\n0,"x""y"\n1,"x""y"\n'
    with open(path, newline="") as file:
        assert list(csv.reader(file))[2] == ["1", 'x"y']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2,3\n", "2 cells, as the first row has, got another number in row 1"),
        (
            b"a,b\n1,2\n1\n",
            "2 cells, as the first row has, got another number in row 2",
        ),
        (b'a,b\n1,"2\n', "expected a table, got unexpected end of data after line 1"),
        (b"a,b\n1,\0\n", "expected a text file, got binary data"),
        (b"a,b\n1,\xff\n", "expected a text file, got binary data"),
        (b"a\n" + b"1" * 200_000, "expected a table, got field larger than"),
    ],
)
def test_another_table_is_refused(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        table.read_rows(path)
    assert str(error.value).startswith(f"{path}: expected ")
    assert message in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    table.write_rows(path, [{"a": 1}])
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        table.write_rows(path, [{"a": 2}, {"b": 3}])
    assert table.read_rows(path) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_lines_have_numbers_of_their_own(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("\t0.5 \t-1 \n\n2e-3\r\n  \n")
    one, two = table.lines(path)
    np.testing.assert_array_equal(one, [0.5, -1])
    np.testing.assert_array_equal(two, [2e-3])
    assert one.dtype == two.dtype == np.float64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected numbers, got an empty file"),
        (b" \n\n", "expected numbers, got an empty file"),
        (b"\x80\x04\x95", "expected a text file, got binary data"),
        (b"1 2\0\n", "expected a text file, got binary data"),
        ("1 2\n".encode("utf-16"), "expected a text file, got binary data"),
        (b"1 2\n\n3 abc \n", "expected numbers in line 3, got '3 abc'"),
        (b"1 nan\n", "expected finite numbers in line 1, got NaN"),
        (b"1 inf\n", "expected finite numbers in line 1, got NaN"),
    ],
)
def test_lines_name_what_is_malformed(tmp_path, content, message):
    path = tmp_path / "numbers.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        table.lines(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_byte_order_mark_is_no_number(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("1 2\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(table.lines(path), [[1, 2]])


def test_text_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("1 2\n")
    os.truncate(path, 2**31 + 1)
    with pytest.raises(ValueError, match="text of at most 2,147,483,648 bytes"):
        table.lines(path)


def test_lines_of_no_file_are_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        table.lines(tmp_path / "numbers.txt")


def test_a_rectangle_has_lines_of_one_length(tmp_path):
    lines = [np.arange(3.0), np.ones(3)]
    np.testing.assert_array_equal(
        table.rectangle(lines, tmp_path, 3), [[0, 1, 2], [1, 1, 1]]
    )
    with pytest.raises(ValueError) as error:
        table.rectangle([*lines, np.ones(2)], tmp_path, 3)
    assert str(error.value) == (
        f"{tmp_path}: expected 3 numbers in each row, got 2 in row 3"
    )


def test_a_header_is_two_sizes(tmp_path):
    assert table.header(np.array([2.0, 3.0]), tmp_path, "sizes") == [2, 3]


@pytest.mark.parametrize("line", [[2.0], [2.0, 3.0, 4.0], [2.0, 0.0], [2.5, 3.0]])
def test_anything_else_is_no_header(tmp_path, line):
    with pytest.raises(ValueError) as error:
        table.header(np.array(line), tmp_path, "the numbers of rows and of columns")
    assert str(error.value) == (
        f"{tmp_path}: expected the numbers of rows and of columns in line 1, got {line}"
    )


def test_sizes_beyond_integers_of_the_machine_are_sizes(tmp_path):
    assert table.header(np.array([1e300, 1.0]), tmp_path, "sizes") == [int(1e300), 1]


def test_what_is_no_file_is_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for place, kind in ((path, "a pipe"), (tmp_path, "a directory")):
        with pytest.raises(ValueError, match=f"a regular file, got {kind}"):
            atomic.replace(place, lambda file: file.write(b"new"))
    (tmp_path / "link").symlink_to(path)
    atomic.replace(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").read_bytes() == b"new" and path.is_fifo()
