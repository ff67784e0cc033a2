"""Archives come back as they were written, and nothing else is believed."""

import errno
import io
import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from lvm_jax.files import archive, regular

_ARRAYS = {
    "float": np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "key": np.array([1, 2**32 - 1], np.uint32),
    "flags": np.array([True, False]),
    "words": np.array(["<unk>", "naïve"]),
    "empty": np.zeros((0, 3)),
    "no words": np.array([], str),
    "number": np.float64(0.5),
    "nan": np.array([np.nan, -np.inf]),
    "8/model/prior": np.arange(3, dtype=np.int8),
}


def _refusal(path) -> str:
    """What an archive is refused for, after its path."""
    with pytest.raises(ValueError) as error:
        archive.read(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "expected " in text and ", got " in text
    assert text.isprintable()
    return text.removeprefix(str(path))


def _npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _claim(shape, descr, body=b"") -> bytes:
    """An .npy whose header says what it likes."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + body


def _write(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_every_array_comes_back(tmp_path):
    archive.write(tmp_path / "a.npz", _ARRAYS)
    back = archive.read(tmp_path / "a.npz")
    assert back.keys() == _ARRAYS.keys()
    for name, array in _ARRAYS.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


def test_numbers_of_another_byte_order_come_back_in_this_machines(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3, dtype=">f4"))
    back = archive.read(tmp_path / "a.npz")["x"]
    np.testing.assert_array_equal(jnp.asarray(back), [0, 1, 2])


def test_what_takes_little_room_when_compressed_comes_back(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000)))
    assert not archive.read(tmp_path / "a.npz")["x"].any()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x.txt", b"1")], ": expected arrays alone, got x.txt"),
        ([("x.npy", b"1,2")], ", x.npy: expected an array of NumPy, got a truncated"),
        ([("x.npy", b"")], ", x.npy: expected an array of NumPy, got a truncated"),
        ([("x.npy", _npy(1)), ("x.npy", _npy(2))], ": expected arrays of different"),
        (
            [("x.npy", _claim((10**5, 62500), "<f8"))],
            ", x.npy: expected 50,000,000,000 bytes for an array of shape",
        ),
        ([("x.npy", _npy(np.eye(2))[:-1])], "expected 32 bytes for an array of"),
        ([("x.npy", _npy(np.eye(2)) + b"\0")], "of shape (2, 2), got 33"),
        ([("x.npy", _claim((10**12,), "<U0"))], "expected numbers or text, got noth"),
        ([("x.npy", _claim((2,), "?", b"\0\2"))], "expected booleans, got 2"),
        (
            [("x.npy", _claim((1,), "|O", pickle.dumps([1])))],
            ", x.npy: expected numbers or text, got Python objects",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_another_archive_is_refused(tmp_path, members, message):
    assert message in _refusal(_write(tmp_path / "a.npz", members))


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "a truncated or damaged file"),
        (b"PK\x03\x04", "a truncated or damaged file"),
        (b"1,2\n", "a truncated or damaged file"),
        (_npy(np.eye(2)), "a single one, .npy"),
        (pickle.dumps({"x": 1}), "pickled objects"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, content, got):
    (tmp_path / "a.npz").write_bytes(content)
    text = _refusal(tmp_path / "a.npz")
    assert text.startswith(": expected an archive of arrays")
    assert text.endswith(f", got {got}")


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_refused(tmp_path, compression):
    path = _write(tmp_path / "a.npz", [("x.npy", _npy(np.eye(2)))], compression)
    assert "stored or deflated, got another compression" in _refusal(path)


def test_an_encrypted_member_is_refused(tmp_path):
    path = _write(tmp_path / "a.npz", [("x.npy", _npy(np.eye(2)))])
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "stored or deflated, got an encrypted one" in _refusal(path)


@pytest.mark.parametrize("count", [1, 3])
def test_a_bomb_is_refused_whatever_it_is_cut_into(tmp_path, count):
    zeros = _npy(np.zeros(72 * 2**20 // count, np.int8))
    members = [(f"{index}.npy", zeros) for index in range(count)]
    path = _write(tmp_path / "a.npz", members, zipfile.ZIP_DEFLATED)
    assert "packed at most 1000 times" in _refusal(path)


@pytest.mark.parametrize("place", [20, 24])
def test_sizes_that_do_not_fit_the_file_take_no_memory(tmp_path, monkeypatch, place):
    """The packed size of a member, and its size, in the archive's directory."""
    monkeypatch.setattr(np.lib.format, "read_array", None)  # To be called by nobody.
    path = _write(tmp_path / "a.npz", [("x.npy", _claim((2**30,), "|i1"))])
    content = bytearray(path.read_bytes())
    length = len(_claim((2**30,), "|i1")) + 2**30
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + place, length)
    path.write_bytes(content)
    _refusal(path)


def test_damage_anywhere_is_refused_in_one_line_or_changes_nothing(tmp_path):
    """Each member has a checksum, and each array as many bytes as it says."""
    archive.write(tmp_path / "a.npz", _ARRAYS)
    whole, path = (tmp_path / "a.npz").read_bytes(), tmp_path / "damaged.npz"
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(whole) // 2, 2 * len(whole))])
        try:
            back = archive.read(path)
        except ValueError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()
        else:
            for name in back.keys() & _ARRAYS.keys():
                np.testing.assert_array_equal(back[name], _ARRAYS[name])


class _Failing(io.FileIO):
    """A file whose disk fails after some reads."""

    def __init__(self, path, num_reads):
        super().__init__(path)
        self._left = num_reads

    def _count(self):
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def readinto(self, buffer):
        self._count()
        return super().readinto(buffer)

    def readall(self):
        self._count()
        return super().readall()


def test_an_error_of_the_system_is_no_damage(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    archive.write(path, _ARRAYS)
    for num_reads in range(10_000):
        file = io.BufferedReader(_Failing(path, num_reads), 16)
        monkeypatch.setattr(regular, "open_file", {path: file}.get)
        try:
            archive.read(path)
        except OSError as error:
            assert error.errno == errno.EIO
        else:
            break
    assert num_reads > 50


def test_a_missing_archive_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        archive.read(tmp_path / "a.npz")
