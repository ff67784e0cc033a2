"""Atomic checkpoints of a sweep, written while it trains, and its history by epoch.

A checkpoint is a folder named by its epoch with the state of all runs in Orbax's
format and their digest. The records of the epochs between two checkpoints are an
archive of their own, written before the later one, so that the archives up to any
checkpoint hold every epoch once.
"""

import contextlib
import io
import pathlib
import warnings
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from lvm_jax.files import archive
from lvm_jax.sweep.run import Record, Run
from lvm_jax.training.identity import digest
from lvm_jax.training.workdir import WorkdirError

_MAX_TO_KEEP = 3


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


def concatenate(records: list[tuple[Record, ...]]) -> tuple[Record, ...]:
    """Joins the records of successive epochs, for each group."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *records)


class Checkpoints:
    """The checkpoints of one sweep in a directory.

    For one process of a job alone: the others have nothing to do with it.
    """

    def __init__(self, directory: pathlib.Path):
        """Opens or makes a directory of checkpoints; half-written ones are removed.

        Args:
          directory: where.

        Raises:
          OSError: if it cannot be made.
        """
        self._history = pathlib.Path(directory).absolute() / "history"
        self._history.mkdir(parents=True, exist_ok=True)
        self._saved = 0
        alone = {jax.process_index()}
        self._manager = ocp.CheckpointManager(
            self._history.with_name("checkpoints"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=_MAX_TO_KEEP,
                create=False,
                cleanup_tmp_directories=True,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=jax.process_index(),
                    active_processes=alone,
                    barrier_sync_key_prefix=f"process_{jax.process_index()}",
                ),
            ),
            item_names=("runs", "about"),
        )

    def save(
        self, epoch: int, runs: tuple[Run, ...], records: tuple[Record, ...]
    ) -> None:
        """Starts to write a checkpoint, after the one before it is whole.

        Args:
          epoch: the epoch reached.
          runs: from `Sweep.gather`.
          records: of the epochs since the last checkpoint.

        Raises:
          OSError: if this checkpoint or the one before cannot be written.
        """
        self.wait()
        arrays = archive.flatten(runs)
        span = f"{self._saved:08d}-{epoch:08d}.npz"
        archive.write(self._history / span, records)
        try:
            self._manager.save(
                epoch,
                args=ocp.args.Composite(
                    runs=ocp.args.StandardSave(arrays),
                    about=ocp.args.JsonSave({"digest": digest(arrays)}),
                ),
            )
        except Exception as error:
            raise self._not_written(error) from error
        self._saved = epoch

    def wait(self) -> None:
        """Returns when the last checkpoint is whole.

        Raises:
          OSError: if it cannot be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error

    def _not_written(self, error: Exception) -> OSError:
        reason = str(error).strip().splitlines()[:1]
        return OSError(
            f"expected to write a checkpoint in {self._history.parent}, got "
            f"{type(error).__name__}: {' '.join(reason)[:200]}"
        )

    def close(self) -> None:
        """Ends the threads that write."""
        self._manager.close()

    def restore(self, runs: tuple[Run, ...]) -> Restored | None:
        """Reads the newest checkpoint that is whole, and removes what came after it.

        A damaged checkpoint or archive is named in a warning, and removed once an older
        one has been read.

        Args:
          runs: their shapes and types, from `Sweep.run_shapes`.

        Returns:
          The sweep, or None if there is no checkpoint.

        Raises:
          WorkdirError: if there are checkpoints and none is whole.
        """
        restored, damaged = None, []
        for epoch in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = Restored(
                    epoch, self._read(epoch, runs), self._read_records(epoch)
                )
                break
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                warnings.warn(
                    f"the checkpoint of epoch {epoch} in {self._history.parent} is "
                    f"damaged and not used: {reason}",
                    stacklevel=2,
                )
                damaged.append(epoch)
        if damaged and restored is None:
            raise WorkdirError(
                f"expected a whole checkpoint in {self._history.parent}, got "
                f"{len(damaged)} that cannot be read"
            )
        for epoch in damaged:
            self._manager.delete(epoch)
        self._saved = restored.epoch if restored else 0
        for start, path in self._spans():
            if start >= self._saved:
                path.unlink()
        return restored

    def _spans(self) -> list[tuple[int, pathlib.Path]]:
        """The archives of records with the epoch before their first, in order."""
        paths = sorted(self._history.glob("*-*.npz"))
        return [(int(path.stem.split("-")[0]), path) for path in paths]

    def _read(self, epoch: int, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        like = {
            name: np.empty(leaf.shape, leaf.dtype)
            for name, leaf in archive.flatten(runs).items()
        }
        # Where one array is damaged, reads of others that end later print tracebacks.
        with contextlib.redirect_stderr(io.StringIO()):
            stored = self._manager.restore(
                epoch,
                args=ocp.args.Composite(
                    runs=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore()
                ),
            )
        if digest(stored.runs) != stored.about["digest"]:
            raise ValueError("expected arrays of the saved digest, got others")
        return archive.unflatten(stored.runs, runs)

    def _read_records(self, epoch: int) -> tuple[Record, ...]:
        parts, reached = [], 0
        for start, path in self._spans():
            stop = int(path.stem.split("-")[1])
            if start == reached and stop <= epoch:
                parts.append(_as_records(archive.read(path)))
                reached = stop
        if reached != epoch:
            raise ValueError(f"expected records up to it, got them up to {reached}")
        return concatenate(parts)


def _as_records(arrays: dict[str, np.ndarray]) -> tuple[Record, ...]:
    """The records that `archive.flatten` made arrays of, such as 0/train/elbo."""
    groups = {}
    for name, array in arrays.items():
        group, field, *metric = name.split("/")
        record = groups.setdefault(int(group), {field: {} for field in Record._fields})
        if metric:
            record[field][metric[0]] = array
        else:
            record[field] = array
    return tuple(Record(**groups[group]) for group in sorted(groups))
