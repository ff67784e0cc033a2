"""The directory that a sweep's results grow in: who holds it, and what is in it."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import threading
from collections.abc import Iterator
from typing import Any

from lvm_jax.files import archive, atomic, figure, regular
from lvm_jax.sweep.plan import Plan
from lvm_jax.training.identity import data_arrays, differences, digest, plan_as_json
from lvm_jax.training.waves import Wave, as_wave
from lvm_jax.types import Task

PLAN = "plan.json"
DATA = "data.npz"
RESULTS = "results.npz"
HISTORY = "history.csv"
KEPT = "kept.csv"
FLAGS = "flags.json"  # of a binary
TRUTH = "truth.npz"  # likewise
FIGURES = "figures"

_MARK = "lvm_jax "
_FORMAT = f"{_MARK}3"
_LOCK = ".lock"
_HOLDER = re.compile(r"(process \d+ on .*\n)?")  # all that a lock may say
_REMOVED = ".removed.json"  # the plan of results that are being removed
_WAVES = "waves"
_WAVE = "wave.json"
_held = set()  # (thread, workdir)
_ANY_WAVE = "[0-9]" * 4
_FOLDER = re.compile(r"figures|waves(/\d{4}(/history|/checkpoints)?)?")
_FILE = re.compile(
    r"(history|kept)\.csv|(data|results|truth)\.npz|flags\.json"
    r"|waves/\d{4}/wave\.json"
    r"|waves/\d{4}/(history/\d{8,}-\d{8,}\.npz|checkpoints/\d{8,}\.(json|npz))"
)
_FIGURE = re.compile(r"figures/[^/]+\.png")
_PARTIAL = re.compile(r"(.*/)?\.([^/]+)\.partial")


class WorkdirError(ValueError):
    """A workdir does not fit what is asked for; one that is overwritten would."""


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
            if not (path / PLAN).exists() and (path / _REMOVED).exists():
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
    plan = next((name for name in (PLAN, _REMOVED) if name in found), None)
    if plan is None:
        if found - {_LOCK, atomic.partial(path / PLAN).name}:
            raise ValueError(
                f"expected a new workdir, or one with {PLAN}, got {path}, which has "
                "other files"
            )
        return
    about = read_json(path / plan)
    form = about.get("format")
    if not str(form).startswith(_MARK):
        raise ValueError(
            f"expected a workdir of format {_FORMAT!r}, got {path} of format {form!r}"
        )
    _check_folders(path)
    if plan == PLAN and identity is not None:
        _check_identity(path, about, identity)


def _check_folders(path: pathlib.Path) -> None:
    """Checks that what is to be written can be, and not through a link."""
    for entry in (path / FIGURES, path / _WAVES, *(path / _WAVES).rglob("*")):
        if entry.is_symlink():
            raise ValueError(
                f"expected a folder or a file of the sweep, got the link {entry}"
            )
        is_folder = _FOLDER.fullmatch(entry.relative_to(path).as_posix())
        if is_folder and entry.exists() and not entry.is_dir():
            raise ValueError(f"expected a folder, got the file {entry}")
    for name in (PLAN, DATA, RESULTS, HISTORY, KEPT, FLAGS, TRUTH):
        for file in (path / name, atomic.partial(path / name)):
            if file.is_dir():
                raise ValueError(f"expected a file, got the folder {file}")


def _check_identity(
    path: pathlib.Path, about: dict[str, Any], identity: dict[str, Any]
) -> None:
    if about["format"] != _FORMAT:
        raise WorkdirError(
            f"expected a workdir of format {_FORMAT!r}, got {path} of format "
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
        os.replace(path / PLAN, path / _REMOVED)
    for entry, is_ours in entries:
        if is_ours:
            entry.unlink()
        else:
            left.append(str(entry.relative_to(path)))
    folders = [path / FIGURES, path / _WAVES, *(path / _WAVES).rglob("*")]
    for folder in sorted(folders, reverse=True):
        if _FOLDER.fullmatch(folder.relative_to(path).as_posix()):
            with contextlib.suppress(OSError):  # Something is in it.
                folder.rmdir()
    return left


def _entries(
    folder: pathlib.Path, workdir: pathlib.Path
) -> Iterator[tuple[pathlib.Path, bool]]:
    """What is in a workdir, lock and plan left out, and whether it is ours."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(workdir).as_posix()
        if name in (_LOCK, PLAN, _REMOVED):
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


def begin(path: pathlib.Path, identity: dict[str, Any], task: Task, plan: Plan) -> Task:
    """Writes what is asked for, and what is learned from where it is not there yet.

    Args:
      path: a workdir that is held.
      identity: what its numbers depend on.
      task: what is learned from what.
      plan: what is trained.

    Returns:
      The task with the data and the truth that the workdir began with.

    Raises:
      WorkdirError: if they are damaged, or of other shapes.
      OSError: if something cannot be read or written.
    """
    has_data = (path / PLAN).exists() and (path / DATA).exists()
    if has_data:
        task = read_task(path, task)
    arrays = data_arrays(task)
    # First, so that a kill between the two leaves a workdir that is ours.
    mark(path, identity, plan=plan_as_json(plan), data=digest(arrays))
    if not has_data:
        archive.write(path / DATA, arrays)
    return task


def mark(path: pathlib.Path, identity: dict[str, Any], **about: Any) -> None:
    """Makes a workdir that is held ours.

    Args:
      path: the workdir.
      identity: what tells it from others, as JSON has it.
      **about: what else its plan says, likewise.

    Raises:
      OSError: if it cannot be written.
    """
    write_json(path / PLAN, {"format": _FORMAT, "identity": identity, **about})
    (path / _REMOVED).unlink(missing_ok=True)


def read_task(path: pathlib.Path, task: Task) -> Task:
    """The task with the data and the truth that a workdir began with.

    Args:
      path: the workdir.
      task: whose data are of the same shapes.

    Raises:
      WorkdirError: if they are damaged, or of other shapes.
      OSError: if they cannot be read.
    """
    expected, path = read_json(path / PLAN).get("data"), path / DATA
    like, arrays = data_arrays(task), archive.read(path)
    if digest(arrays) != expected:
        raise WorkdirError(f"expected the data of the digest in {PLAN}, got {path}")
    for name in sorted(like.keys() | arrays.keys()):
        shapes = [
            f"{found[name].dtype} {found[name].shape}" if name in found else "none"
            for found in (arrays, like)
        ]
        if shapes[0] != shapes[1]:
            raise WorkdirError(
                f"expected an array {name} of {shapes[0]}, as {path} has, got "
                f"{shapes[1]}"
            )
    return dataclasses.replace(task, **archive.unflatten(arrays, task.data))


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes values as JSON."""
    text = json.dumps(values, indent=2) + "\n"
    atomic.replace(path, lambda file: file.write(text.encode()))


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads an object of `write_json`.

    Raises:
      ValueError: if the file holds anything else.
      OSError: if it cannot be read.
    """
    with regular.open_file(path) as file:
        text = file.read()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, got {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"expected a JSON object in {path}, got {type(values).__name__}"
        )
    return values


def read_waves(path: pathlib.Path, plan: Plan) -> list[Wave]:
    """The waves of a workdir that have a checkpoint, oldest first.

    One that has none yet is not there: it may be planned anew.

    Args:
      path: the workdir.
      plan: what is asked for now.

    Raises:
      WorkdirError: if a setting has other numbers than the plan's of that name.
      ValueError: if a wave is damaged or missing.
      OSError: if one cannot be read.
    """
    if not (path / PLAN).exists():
        return []
    begun = [
        directory
        for directory in sorted((path / _WAVES).glob(_ANY_WAVE))
        if any(directory.glob("checkpoints/[0-9]*.json"))
    ]
    names = [directory.name for directory in begun]
    expected = [_name(index) for index in range(len(begun))]
    if names != expected:
        raise ValueError(
            f"expected waves {', '.join(expected)} in {path}, got {', '.join(names)}"
        )
    return [_read_wave(directory / _WAVE, plan) for directory in begun]


def _read_wave(path: pathlib.Path, plan: Plan) -> Wave:
    found, asked = read_json(path), plan_as_json(plan)["settings"]
    try:
        wave = as_wave(found["levels"], found["settings"], found["seeds"])
        common = {
            (setting, level)
            for setting, of_levels in found["settings"].items()
            for level in of_levels.keys() & asked.get(setting, {}).keys()
        }
    except (AttributeError, LookupError, TypeError) as error:
        raise WorkdirError(
            f"expected the plan of a wave in {path}, got none"
        ) from error
    for setting, level in sorted(common):
        numbers = found["settings"][setting][level]
        differing = differences(asked[setting][level], numbers)
        if differing:
            raise WorkdirError(
                f"expected setting {setting!r} as it was trained at level {level}, "
                f"got {', '.join(differing)}"
            )
    return wave


def _name(index: int) -> str:
    return f"{index:04d}"


def add_wave(path: pathlib.Path, index: int, plan: Plan) -> pathlib.Path:
    """Makes the directory of a wave, if it is not there, and says what it holds.

    Args:
      path: the workdir.
      index: the wave's place among all, from 0.
      plan: of the wave alone.

    Returns:
      The directory.

    Raises:
      OSError: if it cannot be written.
    """
    directory = path / _WAVES / _name(index)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / _WAVE, plan_as_json(plan))
    return directory
