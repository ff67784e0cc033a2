"""Whose a workdir is: who holds it, what in it is ours, and what may be removed."""

import contextlib
import fcntl
import os
import pathlib
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from lvm_jax.files import atomic, figure
from lvm_jax.training.identity import differences
from lvm_jax.training.workdir import (
    CONSENSUS,
    CONSENSUS_ARRAYS,
    DATA,
    FIGURES,
    FLAGS,
    FORMAT,
    HISTORY,
    KEPT,
    MARK,
    PLAN,
    REMOVED,
    RESULTS,
    TRUTH,
    WAVES,
    WorkdirError,
    read_json,
)

_LOCK = ".lock"
_HOLDER = re.compile(r"(process \d+ on .*\n)?")  # all that a lock may say
_held = set()  # (thread, workdir)
_FOLDER = re.compile(r"figures|waves(/\d{4}(/history|/checkpoints)?)?")
_FILE = re.compile(
    r"(history|kept|consensus)\.csv|(data|results|truth|consensus)\.npz|flags\.json"
    r"|waves/\d{4}/wave\.json"
    r"|waves/\d{4}/(history/\d{8,}-\d{8,}\.npz|checkpoints/\d{8,}\.(json|npz))"
)
_FIGURE = re.compile(r"figures/[^/]+\.png")
_PARTIAL = re.compile(r"(.*/)?\.([^/]+)\.partial")


@contextlib.contextmanager
def opened(path: pathlib.Path, identity: dict[str, Any] | None) -> Iterator[None]:
    """Holds a new directory, or one of the same identity, for this process alone.

    One that this thread holds already is held on. If nothing is begun in a new one, it
    is gone again when it is let go of.

    Args:
      path: where.
      identity: what its numbers depend on, as JSON has it; None for any.

    Yields:
      None.

    Raises:
      WorkdirError: if it has another identity or another format.
      ValueError: if it is in use, or not ours.
      OSError: if it cannot be made or written.
    """
    check(path, identity)
    if (threading.get_ident(), path.resolve()) in _held:
        yield
        return
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            check(path, identity)
            if not (path / PLAN).exists() and (path / REMOVED).exists():
                clear(path)
            try:
                yield
            finally:
                if not (path / PLAN).exists():
                    (path / _LOCK).unlink()
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # Something is in it.
                folder.rmdir()


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock, which the system releases however this process ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(path / _LOCK, flags, 0o666), "r+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"expected a workdir that no other run uses, got {path}, in use by "
                f"{file.read().strip()}"
            ) from error
        if not _HOLDER.fullmatch(file.read()):
            raise ValueError(f"expected the lock of a sweep, got {path / _LOCK}")
        if not os.path.samestat(os.fstat(file.fileno()), os.stat(path / _LOCK)):
            raise ValueError(
                f"expected a workdir that no other run uses, got {path}, which another "
                "has just let go of"
            )
        _write_holder(file, f"process {os.getpid()} on {os.uname().nodename}\n")
        holder = threading.get_ident(), path.resolve()
        _held.add(holder)
        try:
            yield
        finally:
            _held.remove(holder)
            _write_holder(file, "")


def _write_holder(file: Any, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def check(path: pathlib.Path, identity: dict[str, Any] | None) -> None:
    """Checks that a workdir is new, or ours and of this identity; changes nothing.

    Args:
      path: where.
      identity: what its numbers depend on, as JSON has it; None for any.

    Raises:
      WorkdirError: if it has another identity or another format.
      ValueError: if it is not ours.
      OSError: if it cannot be read.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir():
        raise ValueError(f"expected a directory as workdir, got the file {path}")
    found = {entry.name for entry in path.iterdir()}
    plan = next((name for name in (PLAN, REMOVED) if name in found), None)
    if plan is None:
        if found - {_LOCK, atomic.partial(path / PLAN).name}:
            raise ValueError(
                f"expected a new workdir, or one with {PLAN}, got {path}, which has "
                "other files"
            )
        return
    about = read_json(path / plan)
    form = about.get("format")
    if not str(form).startswith(MARK):
        raise ValueError(
            f"expected a workdir of format {FORMAT!r}, got {path} of format {form!r}"
        )
    _check_folders(path)
    if plan == PLAN and identity is not None:
        _check_identity(path, about, identity)


def _check_folders(path: pathlib.Path) -> None:
    """Checks that what is to be written can be, and not through a link."""
    for entry in (path / FIGURES, path / WAVES, *(path / WAVES).rglob("*")):
        if entry.is_symlink():
            raise ValueError(
                f"expected a folder or a file of the sweep, got the link {entry}"
            )
        is_folder = _FOLDER.fullmatch(entry.relative_to(path).as_posix())
        if is_folder and entry.exists() and not entry.is_dir():
            raise ValueError(f"expected a folder, got the file {entry}")
    files = PLAN, DATA, RESULTS, HISTORY, KEPT, FLAGS, TRUTH
    for name in (*files, CONSENSUS, CONSENSUS_ARRAYS):
        for file in (path / name, atomic.partial(path / name)):
            if file.is_dir():
                raise ValueError(f"expected a file, got the folder {file}")


def _check_identity(
    path: pathlib.Path, about: dict[str, Any], identity: dict[str, Any]
) -> None:
    if about["format"] != FORMAT:
        raise WorkdirError(
            f"expected a workdir of format {FORMAT!r}, got {path} of format "
            f"{about['format']!r}"
        )
    found = about.get("identity")
    if not isinstance(found, dict):
        raise WorkdirError(f"expected what {path} was made with in {PLAN}, got none")
    differing = differences(identity, found)
    if differing:
        raise WorkdirError(
            f"expected the task and plan that {path} was made with, got "
            f"{', '.join(differing)}"
        )


def clear(path: pathlib.Path) -> list[str]:
    """Removes the results of a workdir that is held, and nothing else.

    First the plan gets another name: before that the workdir is as it was, and from
    then on opening it ends what is left to do.

    Args:
      path: the workdir.

    Returns:
      What else is there, and stays.

    Raises:
      OSError: if something cannot be removed.
    """
    entries, left = list(_entries(path, path)), []
    if (path / PLAN).exists():
        os.replace(path / PLAN, path / REMOVED)
    for entry, is_ours in entries:
        if is_ours:
            entry.unlink()
        else:
            left.append(str(entry.relative_to(path)))
    folders = [path / FIGURES, path / WAVES, *(path / WAVES).rglob("*")]
    for folder in sorted(folders, reverse=True):
        if _FOLDER.fullmatch(folder.relative_to(path).as_posix()):
            with contextlib.suppress(OSError):  # Something is in it.
                folder.rmdir()
    return left


def warn_of(path: pathlib.Path, left: Sequence[str]) -> None:
    """Warns of what `clear` has left in a workdir, if there is anything."""
    if left:
        warnings.warn(
            f"{path} keeps what is not of a sweep: {', '.join(left)}", stacklevel=4
        )


def _entries(
    folder: pathlib.Path, workdir: pathlib.Path
) -> Iterator[tuple[pathlib.Path, bool]]:
    """What is in a workdir, lock and plan left out, and whether it is ours."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(workdir).as_posix()
        if name in (_LOCK, PLAN, REMOVED):
            continue
        if _FOLDER.fullmatch(name) and path.is_dir() and not path.is_symlink():
            yield from _entries(path, workdir)
        else:
            yield path, _is_ours(path, name)


def _is_ours(path: pathlib.Path, name: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    partial = _PARTIAL.fullmatch(name)
    if partial:
        name = "".join(part or "" for part in partial.groups())
    if _FIGURE.fullmatch(name):
        return bool(partial) or figure.is_ours(path)
    return _FILE.fullmatch(name) is not None
