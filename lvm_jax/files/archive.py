"""Trees of arrays as NumPy archives, written and read without pickle."""

import collections
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lvm_jax.files import atomic, npy, regular


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as 8/model/prior."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def unflatten(leaves: dict[str, Any], like: Any) -> Any:
    """The tree that `flatten` made leaves of.

    Args:
      leaves: by path.
      like: a tree of the same structure.

    Returns:
      A tree with those leaves.

    Raises:
      ValueError: if the paths are not those of the tree.
    """
    names = list(flatten(like))
    if set(names) != set(leaves):
        raise ValueError(
            f"expected arrays {', '.join(names)}, got {', '.join(sorted(leaves))}"
        )
    treedef = jax.tree.structure(like)
    return jax.tree.unflatten(treedef, [leaves[name] for name in names])


def structure(tree: Any) -> Any:
    """What JSON can say of a tree of records, dicts with text as keys, and tuples."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kind = f"{type(tree).__module__}:{type(tree).__qualname__}"
        fields = {name: structure(part) for name, part in tree._asdict().items()}
        return {"record": kind, "fields": fields}
    if isinstance(tree, dict):
        return {"dict": {name: structure(part) for name, part in tree.items()}}
    if isinstance(tree, tuple | list):
        return {"tuple": [structure(part) for part in tree]}
    return None if tree is None else "array"


def rebuild(description: Any, leaves: dict[str, Any], path: str = "") -> Any:
    """The tree that `structure` describes.

    Records are of their own types where the modules of these are loaded, and otherwise
    of types with the same fields: no module is loaded, and nothing is run.

    Args:
      description: from `structure`.
      leaves: by path, as `flatten` has them.
      path: of the tree among the leaves.

    Returns:
      A tree with those leaves.

    Raises:
      ValueError: if a leaf is missing, or nothing is described.
    """

    def parts(named):
        prefix = f"{path}/" if path else ""
        return [rebuild(part, leaves, f"{prefix}{name}") for name, part in named]

    match description:
        case None:
            return None
        case "array" if path in leaves:
            return leaves[path]
        case "array":
            raise ValueError(f"expected an array {path}, got none")
        case {"tuple": list(items)}:
            return tuple(parts(enumerate(items)))
        case {"dict": dict(items)}:
            return dict(zip(items, parts(items.items()), strict=True))
        case _:
            record = record_type(description)
            return record(*parts(description["fields"].items()))


def record_type(description: Any) -> type:
    """The NamedTuple that `structure` describes, or one with the same fields.

    Raises:
      ValueError: if it describes none.
    """
    match description:
        case {"record": str(kind), "fields": dict(fields)}:
            module, _, name = kind.partition(":")
        case _:
            raise ValueError(f"expected a tree of arrays, got {description!r:.40}")
    found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    is_same = (
        isinstance(found, type)
        and issubclass(found, tuple)
        and getattr(found, "_fields", None) == tuple(fields)
    )
    return found if is_same else collections.namedtuple("Record", fields)


def write(path: pathlib.Path, tree: Any) -> None:
    """Writes a tree of arrays as an archive, named as `flatten` does."""
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(tree).items()}
    atomic.replace(path, lambda file: np.savez(file, **arrays))


def read_fields(path: pathlib.Path, fields: Sequence[str]) -> list[np.ndarray]:
    """Reads the arrays of some names, such as a record's, from an archive.

    Args:
      path: an .npz file.
      fields: their names.

    Returns:
      An array for each name.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is no archive, or an array is missing or has no finite numbers.
    """
    arrays = read(path)
    for name in fields:
        if name not in arrays:
            raise ValueError(
                f"{path}: expected arrays {', '.join(fields)}, got "
                f"{', '.join(sorted(arrays))}"
            )
        is_number = arrays[name].dtype.kind in "biuf"
        if not is_number or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{path}: expected finite numbers in {name}, got others")
    return [arrays[name] for name in fields]


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an archive of `write`.

    Sizes that it claims are compared with the file before memory is taken, and nothing
    is unpickled.

    Args:
      path: an .npz file.

    Returns:
      Its arrays by name.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is no regular file, is damaged, or holds anything but arrays of
        numbers or text.
    """
    name = regular.shown(path)
    with regular.open_file(path) as file, npy.open_archive(file, name) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError(f"{name}: expected arrays of different names, got others")
        for member in members:
            if not member.endswith(npy.SUFFIX):
                raise ValueError(
                    f"{name}: expected arrays alone, got {regular.shown(member)}"
                )
        npy.check_members(archive, archive.infolist(), name)
        return {
            member.removesuffix(npy.SUFFIX): _member(
                archive, info, f"{name}, {regular.shown(member)}"
            )
            for member, info in members.items()
        }


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with npy.open_member(archive, info, name) as file:
        _, dtype = npy.read_header(file, info.file_size, name)
        if dtype.hasobject or not dtype.itemsize:
            raise ValueError(
                f"{name}: expected numbers or text, got "
                f"{'Python objects' if dtype.hasobject else 'nothing'}"
            )
        array = npy.read(file, name)
    return array.astype(dtype.newbyteorder("="), copy=False)
