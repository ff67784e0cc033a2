"""The directory that a sweep's results grow in: who holds it, and what is in it."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from lvm_jax import files, results
from lvm_jax.waves import Wave

_FORMAT = 1
_LOCK = ".lock"
_WAVES = "waves"
_WAVE = "wave.json"
# In the order in which they are removed: what tells that they are ours comes last.
_OURS = (
    _WAVES,
    "figures",
    results.HISTORY,
    results.KEPT,
    results.LEARNED,
    results.TRUTH,
    results.FLAGS,
)


@contextlib.contextmanager
def opened(
    path: pathlib.Path,
    flags: dict[str, Any],
    *,
    free: Collection[str] = (),
    overwrite: bool = False,
) -> Iterator[pathlib.Path]:
    """Holds a new directory, or one of the same flags, for this process alone.

    Args:
      path: where.
      flags: values by name, as JSON has them.
      free: names of flags that may differ from what the directory was made with.
      overwrite: whether to remove the results that are there.

    Yields:
      The path.

    Raises:
      ValueError: if it is in use, has other files, other flags or another format.
      OSError: if it cannot be made or written.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"expected a directory as workdir, got the file {path}")
    found = {entry.name for entry in path.iterdir()} if path.exists() else set()
    begun = {_LOCK, files.partial(path / results.FLAGS).name}
    if found - begun and results.FLAGS not in found:
        raise ValueError(
            f"expected a new workdir, or one with {results.FLAGS}, got {path}, which "
            "has other files"
        )
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if overwrite:
            _clear(path)
        check(path, flags, free)
        results.write_json(path / results.FLAGS, {"format": _FORMAT, "flags": flags})
        yield path


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock, which the system releases however this process ends."""
    with open(path / _LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"expected a workdir that no other run uses, got {path}, in use by "
                f"{file.read().strip()}"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def _clear(path: pathlib.Path) -> None:
    """Removes results; what is left halfway has a format that nothing goes on with."""
    if (path / results.FLAGS).exists():
        results.write_json(path / results.FLAGS, {"format": 0})
    for name in _OURS:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)


def check(path: pathlib.Path, flags: dict[str, Any], free: Collection[str]) -> None:
    """Checks that a workdir, if it is there, has these flags; changes nothing.

    Args:
      path: where.
      flags: values by name, as JSON has them.
      free: names of flags that may differ.

    Raises:
      ValueError: if it has other flags or another format.
    """
    if not (path / results.FLAGS).exists():
        return
    found = _read_json(path / results.FLAGS)
    if found.get("format") != _FORMAT:
        raise ValueError(
            f"expected a workdir of format {_FORMAT}, got {path} of format "
            f"{found.get('format', 0)}; --overwrite starts anew"
        )
    there = found["flags"]
    differing = [
        f"{name}={flags.get(name)} (there {there.get(name)})"
        for name in sorted((there | flags).keys() - set(free))
        if there.get(name) != flags.get(name)
    ]
    if differing:
        raise ValueError(
            f"expected the flags that {path} was made with, got "
            f"{', '.join(differing)}; --overwrite starts anew"
        )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got {error}") from error


def waves(path: pathlib.Path) -> list[Wave]:
    """The waves of a workdir that have a checkpoint, oldest first.

    One that has none yet is not there: it may be planned anew.

    Raises:
      ValueError: if one is damaged or missing.
      OSError: if one cannot be read.
    """
    begun = [
        directory
        for directory in sorted((path / _WAVES).glob("*"))
        if any(entry.name.isdigit() for entry in directory.glob("checkpoints/*"))
    ]
    names = [directory.name for directory in begun]
    expected = [_name(index) for index in range(len(begun))]
    if names != expected:
        raise ValueError(
            f"expected waves {', '.join(expected)} in {path}, got {', '.join(names)}"
        )
    return as_waves(_read_json(directory / _WAVE) for directory in begun)


def _name(index: int) -> str:
    return f"{index:04d}"


def as_waves(values: Iterable[Any]) -> list[Wave]:
    """Waves that JSON has made lists of."""
    return [Wave(*_as_tuples(wave)) for wave in values]


def _as_tuples(values: Any) -> Any:
    return tuple(map(_as_tuples, values)) if isinstance(values, list) else values


def add_wave(path: pathlib.Path, index: int, wave: Wave) -> pathlib.Path:
    """Makes the directory of a wave, if it is not there, and says what it holds.

    Args:
      path: the workdir.
      index: the wave's place among all, from 0.
      wave: the wave.

    Returns:
      The directory.

    Raises:
      OSError: if it cannot be written.
    """
    directory = path / _WAVES / _name(index)
    directory.mkdir(parents=True, exist_ok=True)
    results.write_json(directory / _WAVE, wave)
    return directory
