"""Regular files: all that is read or replaced by a path that a user gives.

A pipe, a socket or a device would block, or never end.
"""

import hashlib
import os
import pathlib
import stat
from collections.abc import Iterable
from typing import BinaryIO

_MAX_TEXT_BYTES = 2 * 2**30
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def shown(path: pathlib.Path | str) -> str:
    """A path as errors name it: on one line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def check(path: pathlib.Path) -> None:
    """Refuses what is no regular file.

    Raises:
      OSError: if there is none.
      ValueError: if it is a directory, a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise ValueError(f"{shown(path)}: expected a regular file, got {kind}")


def open_file(path: pathlib.Path) -> BinaryIO:
    """Opens a regular file to read bytes. Anything else is refused before it can block.

    Raises:
      OSError: if there is none, or it cannot be opened.
      ValueError: if it is a directory, a pipe, a socket or a device.
    """
    check(path)
    return open(
        path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    )


def num_bytes(file: BinaryIO) -> int:
    """The size of a file that is open."""
    return os.fstat(file.fileno()).st_size


def read_text(file: BinaryIO, name: str) -> bytes:
    """All of a text, which is refused unread if it has more than 2 GiB.

    Args:
      file: from `open_file`.
      name: what an error calls it.

    Returns:
      Its bytes, undecoded.

    Raises:
      OSError: if it cannot be read.
      ValueError: if it is too long.
    """
    if num_bytes(file) > _MAX_TEXT_BYTES:
        raise ValueError(
            f"{name}: expected text of at most {_MAX_TEXT_BYTES:,} bytes, "
            f"got {num_bytes(file):,}"
        )
    return file.read()


def digest(paths: Iterable[pathlib.Path]) -> str:
    """SHA-256 of what is in files, one after the other.

    Raises:
      OSError: if one cannot be read.
      ValueError: if one is no regular file.
    """
    sha = hashlib.sha256()
    for path in paths:
        with open_file(path) as file:
            hashlib.file_digest(file, lambda: sha)
    return sha.hexdigest()
