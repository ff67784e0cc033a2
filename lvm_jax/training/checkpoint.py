"""Atomic checkpoints of a sweep, written while it trains, and its history by epoch.

A checkpoint is an archive with the state of all runs, named by its epoch. The records
of the epochs between two checkpoints are an archive of their own. What names both, and
those of all epochs before, with their digests is written last: it makes a checkpoint,
and decides whether the checkpoint is what was written.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import warnings
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from lvm_jax.files import archive, regular
from lvm_jax.files.regular import digest
from lvm_jax.sweep.run import Record, Run
from lvm_jax.training.workdir import WorkdirError, write_json

_MAX_TO_KEEP = 3
_NAME = re.compile(r"(\d{8,})\.(json|npz)")


class Restored(NamedTuple):
    """A sweep as a checkpoint has it.

    Attributes:
      epoch: the epoch reached.
      runs: a Run of host arrays for each group, as `Sweep.gather` returns them.
      records: a Record for each group, arrays [R, E] of all epochs up to `epoch`.
    """

    epoch: int
    runs: tuple[Run, ...]
    records: tuple[Record, ...]


class _DamageError(Exception):
    """A digest does not fit: a checkpoint is not what was written."""


def concatenate(records: list[tuple[Record, ...]]) -> tuple[Record, ...]:
    """Joins the records of successive epochs, for each group."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *records)


class Checkpoints:
    """The checkpoints of one sweep in a directory.

    For one process of a job alone: the others have nothing to do with it.
    """

    def __init__(self, directory: pathlib.Path):
        """Opens or makes a directory of checkpoints.

        Args:
          directory: where.

        Raises:
          OSError: if it cannot be made.
        """
        self._directory = pathlib.Path(directory) / "checkpoints"
        self._history = pathlib.Path(directory) / "history"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._epoch = 0  # of the last checkpoint, or of the one that is written
        self._records = {}  # digests of the records up to it, by name of the file
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._written = concurrent.futures.Future()
        self._written.set_result(None)

    def save(
        self, epoch: int, runs: tuple[Run, ...], records: tuple[Record, ...]
    ) -> None:
        """Starts to write a checkpoint, after the one before it is whole.

        Args:
          epoch: the epoch reached.
          runs: from `Sweep.gather`.
          records: of the epochs since the last checkpoint.

        Raises:
          OSError: if the checkpoint before cannot be written.
        """
        self.wait()
        span = f"{self._epoch:08d}-{epoch:08d}.npz"
        self._epoch = epoch
        self._written = self._writer.submit(self._write, span, runs, records)

    def _write(self, span: str, runs: Any, records: Any) -> None:
        self._history.mkdir(exist_ok=True)
        archive.write(self._history / span, records)
        runs_path = self._path(self._epoch, "npz")
        archive.write(runs_path, runs)
        self._records[span] = digest([self._history / span])
        about = {
            "epoch": self._epoch,
            "runs": digest([runs_path]),
            "records": self._records,
        }
        write_json(self._path(self._epoch, "json"), about)
        self._keep(self._epochs()[-_MAX_TO_KEEP:])

    def _path(self, epoch: int, suffix: str) -> pathlib.Path:
        return self._directory / f"{epoch:08d}.{suffix}"

    def _epochs(self) -> list[int]:
        """Those of the checkpoints that are there, in order."""
        names = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(name[1]) for name in names if name and name[2] == "json")

    def _keep(self, epochs: Collection[int]) -> None:
        """Removes the checkpoints of other epochs, and what is left of half of one."""
        for path in sorted(self._directory.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name and int(name[1]) not in epochs and path.is_file():
                path.unlink()

    def wait(self) -> None:
        """Returns when the last checkpoint is whole.

        Raises:
          OSError: if it cannot be written.
        """
        try:
            self._written.result()
        except OSError as error:
            raise OSError(
                f"expected to write a checkpoint in {self._directory}, got {error}"
            ) from error

    def close(self) -> None:
        """Ends the thread that writes."""
        self._writer.shutdown()

    def restore(self, runs: tuple[Run, ...]) -> Restored | None:
        """Reads the newest checkpoint that is whole.

        One whose digests do not fit is named in a warning, and removed once an older
        one has been read.

        Args:
          runs: their shapes and types, from `Sweep.run_shapes`.

        Returns:
          The sweep, or None if there is no checkpoint.

        Raises:
          WorkdirError: if there are checkpoints and none is whole, or one is of other
            shapes.
          OSError: if one cannot be read, which says nothing of whether it is whole.
        """
        damaged = []
        for epoch in reversed(self._epochs()):
            try:
                records = self._check(epoch)
            except _DamageError as error:
                warnings.warn(
                    f"the checkpoint of epoch {epoch} in {self._directory} is damaged "
                    f"and not used: {error}",
                    stacklevel=2,
                )
                damaged.append(epoch)
                continue
            self._epoch, self._records = epoch, records
            arrays = archive.read(self._path(epoch, "npz"))
            parts = [archive.read(self._history / name) for name in records]
            restored = Restored(
                epoch,
                _as_runs(arrays, runs),
                concatenate(list(map(_as_records, parts))),
            )
            self._keep(set(self._epochs()) - set(damaged))
            return restored
        if damaged:
            raise WorkdirError(
                f"expected a whole checkpoint in {self._directory}, got "
                f"{len(damaged)} that are damaged"
            )
        return None

    def _check(self, epoch: int) -> dict[str, str]:
        """The digests of all records up to a checkpoint that is whole."""
        path = self._path(epoch, "json")
        with regular.open_file(path) as file:
            text = file.read()
        try:
            about = json.loads(text)
            own, records = about["epoch"], dict(about["records"])
            expected = {self._path(epoch, "npz"): about["runs"]}
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise _DamageError(
                f"expected digests in {path.name}, got others"
            ) from error
        if own != epoch or not records:
            raise _DamageError(
                f"expected what is known up to epoch {epoch}, got epoch {own} with "
                f"{len(records)} archives"
            )
        expected |= {self._history / name: known for name, known in records.items()}
        for part, known in expected.items():
            if not _fits(part, known):
                raise _DamageError(f"expected {part.name} of the saved digest")
        return records


def _fits(path: pathlib.Path, expected: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return digest([path]) == expected
    return False


def _as_runs(arrays: dict[str, np.ndarray], like: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs that `archive.flatten` made arrays of."""
    for name, leaf in archive.flatten(like).items():
        array = arrays.get(name, np.empty(0))
        if array.dtype.kind == "V":  # A type that NumPy's archives do not know.
            arrays[name] = array = array.view(leaf.dtype)
        if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            raise WorkdirError(
                f"expected {name} of {leaf.dtype} {leaf.shape} in a checkpoint, got "
                f"{array.dtype} {array.shape}"
            )
    return archive.unflatten(arrays, like)


def _as_records(arrays: dict[str, np.ndarray]) -> tuple[Record, ...]:
    """The records that `archive.flatten` made arrays of, such as 0/train/elbo."""
    groups = {}
    for name, array in arrays.items():
        group, field, *metric = name.split("/", 2)  # A metric's own name may have one.
        record = groups.setdefault(int(group), {field: {} for field in Record._fields})
        if metric:
            record[field][metric[0]] = array
        else:
            record[field] = array
    return tuple(Record(**groups[group]) for group in sorted(groups))
