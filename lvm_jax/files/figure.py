"""What tells figures of this package from others: a note in the PNG."""

import pathlib

from lvm_jax.files import regular

METADATA = {"Software": "lvm_jax"}
_HEAD = 1024  # bytes, in which matplotlib writes it
_NOTE = b"Software\0lvm_jax"


def is_ours(path: pathlib.Path) -> bool:
    """Whether a file is a PNG that was written with `METADATA`, and can be read."""
    try:
        with regular.open_file(path) as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return False
    return head.startswith(b"\x89PNG") and _NOTE in head
