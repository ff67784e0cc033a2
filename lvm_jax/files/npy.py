"""Arrays of NumPy's files, .npy and .npz, read without pickle and without trust.

Sizes that a file claims are compared with the file before memory is taken for them.
"""

import contextlib
import errno
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from lvm_jax.files import regular

SUFFIX = ".npy"  # of the members of an archive

# Compressed members of more bytes than this may be at most this many times larger than
# what they are packed in. Deflate packs zeros 1030 times, and 0/1 samples 980 times (as
# int64; 790 as bool) where one cell in 10,000 is a one.
_LARGE = 64 * 2**20
_MAX_RATIO = 1000
_MAX_UNPACKED = 8 * 2**30 + 2**20

_MAX_AXES = 64  # of an array of NumPy

# What is no archive, by its first bytes.
_OTHERS = {
    np.lib.format.MAGIC_PREFIX: "a single one, .npy",
    b"\x80": "pickled objects",
}

# What zipfile raises of a damaged file.
_DAMAGED = (
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# What NumPy raises of a damaged header, which it parses as a literal of Python.
_DAMAGED_HEADER = (
    *_DAMAGED,
    LookupError,
    MemoryError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
)


@contextlib.contextmanager
def _damage(
    name: str, expected: str, errors: tuple[type[Exception], ...] = _DAMAGED
) -> Iterator[None]:
    """Says in one line that a file is damaged, and hides warnings of old headers.

    Errors of the system stay, for which zipfile raises one of its own at times, but for
    that of a place before the file's beginning.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, *errors) as error:
        for cause in (error, error.__context__):
            if isinstance(cause, OSError) and cause.errno != errno.EINVAL:
                raise cause from None
        raise ValueError(
            f"{name}: expected {expected}, got a truncated or damaged file"
        ) from error


def read_header(
    file: BinaryIO, num_bytes: int, name: str
) -> tuple[tuple[int, ...], np.dtype]:
    """What an array is said to be, which has as many bytes as that takes.

    Args:
      file: an .npy, at its beginning.
      num_bytes: its size.
      name: what an error calls it.

    Returns:
      Shape and type. Of objects, whose size no header tells, too: `read` refuses them.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged, or has another size.
    """
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with _damage(name, "an array of NumPy", _DAMAGED_HEADER):
        shape, _, dtype = read[np.lib.format.read_magic(file)](file)
        if len(shape) > _MAX_AXES or not all(0 <= size < 2**62 for size in shape):
            raise ValueError(f"expected sizes of an array, got {shape}")
    claimed, found = math.prod(shape) * dtype.itemsize, num_bytes - file.tell()
    if claimed != found and not dtype.hasobject:
        raise ValueError(
            f"{name}: expected {claimed:,} bytes for an array of shape {shape}, "
            f"got {found:,}"
        )
    return shape, dtype


def read(file: BinaryIO, name: str) -> np.ndarray:
    """The array of an .npy whose header has been found good.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged, or of objects, or of booleans that are none.
    """
    with _damage(name, "an array of NumPy"):
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise ValueError(f"{name}: expected booleans, got {array.view(np.uint8).max()}")
    return array


def open_archive(file: BinaryIO, name: str) -> zipfile.ZipFile:
    """Opens an .npz.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged, or something else.
    """
    begin = file.read(max(map(len, _OTHERS)))
    for mark, got in _OTHERS.items():
        if begin.startswith(mark):
            raise ValueError(f"{name}: expected an archive of arrays, .npz, got {got}")
    with _damage(name, "an archive of arrays"):
        return zipfile.ZipFile(file)


def check_members(
    archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], name: str
) -> None:
    """Checks that members which are to be read fit into their archive, and unpacked.

    Args:
      archive: from `open_archive`.
      members: of it.
      name: what an error calls the archive.

    Raises:
      ValueError: if they do not, are encrypted, or compressed in a rare way.
    """
    for info in members:
        is_encrypted = info.flag_bits & 1
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if is_encrypted or info.compress_type not in kinds:
            got = "an encrypted one" if is_encrypted else "another compression"
            raise ValueError(f"{name}: expected members stored or deflated, got {got}")
    packed = sum(info.compress_size for info in members)
    if packed > regular.num_bytes(archive.fp):
        raise ValueError(
            f"{name}: expected {packed:,} bytes of arrays, "
            f"got a file of {regular.num_bytes(archive.fp):,}"
        )
    deflated = [info for info in members if info.compress_type == zipfile.ZIP_DEFLATED]
    packed = sum(info.compress_size for info in deflated)
    size = sum(info.file_size for info in deflated)
    if size > _MAX_UNPACKED or (size > _LARGE and size > _MAX_RATIO * packed):
        raise ValueError(
            f"{name}: expected at most {_MAX_UNPACKED:,} bytes, packed at most "
            f"{_MAX_RATIO} times, got {size:,} packed in {packed:,}"
        )


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> BinaryIO:
    """Opens a member that `check_members` lets pass.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged.
    """
    with _damage(name, "an archive of arrays"):
        is_stored = info.compress_type == zipfile.ZIP_STORED
        if is_stored and info.file_size != info.compress_size:
            raise ValueError("expected a stored member of one size, got two")
        return archive.open(info)
