"""What a trained plan leaves: histories and kept models as arrays, rows and files."""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lvm_jax.files import archive, regular, table
from lvm_jax.files.table import Row
from lvm_jax.sweep.plan import Group, Plan, RunName
from lvm_jax.sweep.run import Record, Run
from lvm_jax.training import workdir
from lvm_jax.training.identity import plan_as_json, plan_from_json
from lvm_jax.types import Level, level_name

_ABOUT = "about"  # what is no array, as JSON
_DIVERGED = "diverged"
# What comes of arrays and of JSON that are not of `save`.
_MALFORMED = (
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class Part(NamedTuple):
    """A wave that has been trained, as host arrays: nothing of it stays on a device.

    Attributes:
      groups: of its plan.
      runs: a Run for each group.
      records: a Record for each group, arrays [R, E], of traces [R, E, ...].
    """

    groups: tuple[Group, ...]
    runs: tuple[Run, ...]
    records: tuple[Record, ...]


class Kept(NamedTuple):
    """The models that the runs of a level keep: S settings, R seeds.

    Attributes:
      params: the learner's `params`, leaves [S, R, ...]. Latents are padded to the
        width of the level's group; `Learner.model` of `params` and `live` has those
        that are padding never on.
      live: [S, R, K] mask of the latents of the level.
      objective: [S, R]. Held-out objective of the models.
      epoch: [S, R] int. Epochs that they were learned for, 0 if a run diverged before
        there was a model to keep.
      diverged: [S, R] bool.
    """

    params: Any
    live: Any
    objective: np.ndarray
    epoch: np.ndarray
    diverged: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """A plan that has been trained, as arrays on the host.

    L levels, S settings, R seeds and E records, in the order of the plan.

    Attributes:
      name: of the task.
      plan: what was trained.
      epochs: [E]. Epochs after which the records are, fractions where there are several
        of an epoch.
      history: [L, S, R, E] by column: `train_*` and `held_out_*` metrics, what is
        recovered if there is a truth, and `diverged`.
      kept: the models of each level.
      num_truths: T, true latents; None without a truth.
      traces: of each level, what the task traces, [S, R, E, ...] by name; latents are
        padded to the width of the level's group, as in `kept`.
    """

    name: str
    plan: Plan
    epochs: np.ndarray
    history: dict[str, np.ndarray]
    kept: dict[Level, Kept]
    num_truths: int | None
    traces: dict[Level, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """A row for each run and record, one at a time, in the order of the plan."""
        epochs = self.epochs.tolist()
        for place, run in self._runs():
            columns = [values[place].tolist() for values in self.history.values()]
            start = self._start_of_row(run)
            for epoch, values in zip(epochs, zip(*columns, strict=True), strict=True):
                yield {
                    **start,
                    "epoch": epoch,
                    **dict(zip(self.history, values, strict=True)),
                }

    def kept_rows(self, **measures: np.ndarray) -> list[Row]:
        """A row for each run: its history at the epoch of the model that it kept.

        Its `objective` is what chose that model. A run that has diverged, then or
        later, has recovered nothing.

        Args:
          **measures: [L, S, R] each. Further columns.

        Returns:
          Rows in the order of the plan.
        """
        rows = []
        for (level, *run), name in self._runs():
            place = (level, *run)
            kept = jax.tree.map(
                lambda leaf, run=run: leaf[tuple(run)],
                self.kept[name.level]._replace(params=None, live=None),
            )
            values = {
                column: self._kept_value(column, place, kept)
                for column in self.history
                if column != _DIVERGED
            }
            rows.append(
                {
                    **self._start_of_row(name),
                    "epoch": int(kept.epoch),
                    "objective": kept.objective.item() if kept.epoch else math.nan,
                    **values,
                    **{column: of[place].item() for column, of in measures.items()},
                    _DIVERGED: bool(kept.diverged),
                }
            )
        return rows

    def kept_model(self, level: Level) -> tuple[Any, Any]:
        """`params` and `live` of what the first run at a level and setting keeps."""
        kept = self.kept[level]
        return jax.tree.map(lambda leaf: leaf[0, 0], (kept.params, kept.live))

    def _kept_value(self, column: str, place: tuple[int, ...], kept: Kept) -> Any:
        is_metric = column.startswith(("train_", "held_out_"))
        if kept.diverged and not is_metric:
            return 0
        if not kept.epoch:
            return math.nan
        record = kept.epoch * self.plan.records_per_epoch - 1
        return self.history[column][place][record].item()

    def _runs(self) -> Iterator[tuple[tuple[int, int, int], RunName]]:
        axes = self.plan.levels, tuple(self.plan.settings), self.plan.seeds
        for run in itertools.product(*map(enumerate, axes)):
            places, names = zip(*run, strict=True)
            yield places, RunName(*names)

    def _start_of_row(self, run: RunName) -> Row:
        return {
            "dataset": self.name,
            "level": level_name(run.level),
            "setting": run.setting,
            **self.plan.hyperparams(run.level, run.setting)._asdict(),
            "seed": run.seed,
        }


def assemble(
    name: str,
    plan: Plan,
    num_epochs: int,
    parts: Sequence[Part],
    num_truths: int | None,
) -> Results:
    """Puts the runs of all waves in their places.

    Args:
      name: of the task.
      plan: whose runs are all in one of the parts.
      num_epochs: that they were trained for.
      parts: trained waves.
      num_truths: T; None without a truth.
    """
    groups = [
        group
        for part in parts
        for group in zip(part.groups, part.runs, part.records, strict=True)
    ]
    shape = len(plan.levels), len(plan.settings), len(plan.seeds)
    history, kept, traces = {}, {}, {}
    for group, runs, record in groups:
        columns, models = _columns(record), choose_kept(runs, num_epochs)
        for row, run in enumerate(group.runs):
            level, *place = (
                axis.index(value)
                for axis, value in zip(
                    (plan.levels, list(plan.settings), plan.seeds), run, strict=True
                )
            )
            for column, values in columns.items():
                whole = history.setdefault(
                    column, np.zeros((*shape, *values.shape[1:]), values.dtype)
                )
                whole[(level, *place)] = values[row]
            for of_levels, tree in ((kept, models), (traces, record.trace)):
                if run.level not in of_levels:
                    of_levels[run.level] = _empty(shape[1:], tree)
                for whole, leaf in zip(
                    jax.tree.leaves(of_levels[run.level]),
                    jax.tree.leaves(tree),
                    strict=True,
                ):
                    whole[tuple(place)] = leaf[row]
    return Results(
        name=name,
        plan=plan,
        epochs=_epochs(num_epochs, plan.records_per_epoch),
        history=history,
        kept={level: kept[level] for level in plan.levels},
        num_truths=num_truths,
        traces={level: traces[level] for level in plan.levels if traces[level]},
    )


def _empty(shape: tuple[int, ...], rows: Any) -> Any:
    """Arrays of a shape of runs for a tree whose leaves are [R, ...]."""
    return jax.tree.map(
        lambda leaf: np.zeros((*shape, *leaf.shape[1:]), leaf.dtype), rows
    )


def _epochs(num_epochs: int, records_per_epoch: int) -> np.ndarray:
    records = np.arange(1, num_epochs * records_per_epoch + 1)
    return records if records_per_epoch == 1 else records / records_per_epoch


def _columns(record: Record) -> dict[str, np.ndarray]:
    return {
        **{f"train_{name}": values for name, values in record.train.items()},
        **{f"held_out_{name}": values for name, values in record.held_out.items()},
        **record.recovery,
        _DIVERGED: record.diverged,
    }


def choose_kept(runs: Run, epoch: int) -> Kept:
    """What runs [R] keep when training ends: their best candidate.

    The last epoch, which may lie between two snapshots, is a candidate too.

    Args:
      runs: on the host.
      epoch: the epoch that they have reached.

    Returns:
      Kept with leaves [R, ...].
    """
    is_better = ~runs.diverged & (runs.objective > runs.kept_objective)

    def choose(new, old):
        axes = (1,) * (np.ndim(old) - 1)
        return np.where(is_better.reshape(-1, *axes), new, old)

    return Kept(
        params=jax.tree.map(choose, runs.state.params, runs.kept),
        live=runs.live,
        objective=choose(runs.objective, runs.kept_objective),
        epoch=choose(np.int32(epoch), runs.kept_epoch),
        diverged=runs.diverged,
    )


def save(results: Results, path: pathlib.Path | str) -> None:
    """Writes results: an archive that `load` reads, and tables.

    Args:
      results: of a trained plan.
      path: a directory.

    Raises:
      OSError: if they cannot be written.
    """
    path, plan = pathlib.Path(path), results.plan
    kept = {level_name(level): models for level, models in results.kept.items()}
    traces = {level_name(level): seen for level, seen in results.traces.items()}
    about = {
        "name": results.name,
        "plan": plan_as_json(plan),
        "hyperparams": archive.structure(
            plan.hyperparams(plan.levels[0], next(iter(plan.settings)))
        ),
        "num_truths": results.num_truths,
        "history": list(results.history),
        "kept": archive.structure(kept),
        "traces": {name: list(of_level) for name, of_level in traces.items()},
    }
    arrays = {
        _ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8),
        "epochs": results.epochs,
        "history": results.history,
        "kept": kept,
        "traces": traces,
    }
    archive.write(path / workdir.RESULTS, arrays)
    table.write_rows(path / workdir.HISTORY, results.rows())
    table.write_rows(path / workdir.KEPT, results.kept_rows())


def load(path: pathlib.Path | str) -> Results:
    """Reads the results of a workdir; needs no learner.

    They are of the last training there that has ended; of one that is to add to it and
    has been interrupted, nothing is in them.

    Args:
      path: the workdir.

    Returns:
      Results. Records among the parameters are of their own types where the modules of
      these have been imported, and else of types with the same fields.

    Raises:
      ValueError: if the archive is damaged.
      OSError: if there is none.
    """
    path = pathlib.Path(path) / workdir.RESULTS
    if not path.exists():
        raise FileNotFoundError(
            f"expected results in {path}, got none: training has not ended"
        )
    arrays = archive.read(path)
    try:
        return _parse(arrays)
    except _MALFORMED as error:
        raise ValueError(
            f"expected saved results in {regular.shown(path)}, got {error!r:.300}"
        ) from error


def _parse(arrays: dict[str, np.ndarray]) -> Results:
    """The results that `save` wrote as arrays; one of _MALFORMED of anything else."""
    about = json.loads(arrays[_ABOUT].tobytes())
    plan = plan_from_json(about["plan"], archive.record_type(about["hyperparams"]))
    kept = archive.rebuild(about["kept"], arrays, "kept")
    traces = {
        level: {name: arrays[f"traces/{level}/{name}"] for name in names}
        for level, names in about.get("traces", {}).items()
    }
    results = Results(
        name=about["name"],
        plan=plan,
        epochs=arrays["epochs"],
        history={name: arrays[f"history/{name}"] for name in about["history"]},
        kept={level: kept[level_name(level)] for level in plan.levels},
        num_truths=about["num_truths"],
        traces={
            level: traces[level_name(level)]
            for level in plan.levels
            if level_name(level) in traces
        },
    )
    _check(results)
    return results


def _check(results: Results) -> None:
    """Checks types and shapes of every field but the plan, which checks itself.

    Raises:
      ValueError: if one is not as `assemble` makes it.
    """
    name, num_truths = results.name, results.num_truths
    is_count = type(num_truths) is int and num_truths >= 0
    if not isinstance(name, str) or not (is_count or num_truths is None):
        raise ValueError(
            f"expected a name and a count, got {name!r} and {num_truths!r}"
        )
    runs = len(results.plan.settings), len(results.plan.seeds)
    rate, num_records = results.plan.records_per_epoch, results.epochs.size
    expected = _epochs(num_records // rate, rate)
    _check_array("epochs", results.epochs, expected.shape)
    if not num_records or (results.epochs != expected).any():
        raise ValueError(f"expected the epochs of records, got {results.epochs}")
    shape = (len(results.plan.levels), *runs, num_records)
    for name, values in results.history.items():
        _check_array(name, values, shape)
    _check_array(_DIVERGED, results.history[_DIVERGED], shape, "b")
    for traced in results.traces.values():
        for name, values in traced.items():
            _check_array(name, values, (*runs, num_records, *values.shape[3:]))
    for level, kept in results.kept.items():
        if not isinstance(kept, Kept):
            raise ValueError(f"expected the models of level {level}, got {kept!r}")
        for leaf in jax.tree.leaves((kept.params, kept.live)):
            _check_array("parameters", leaf, (*runs, *leaf.shape[2:]), "biufcV")
        _check_array("objective", kept.objective, runs)
        _check_array("epoch", kept.epoch, runs, "iu")
        _check_array(_DIVERGED, kept.diverged, runs, "b")
        if kept.epoch.min() < 0 or kept.epoch.max() > num_records // rate:
            raise ValueError(f"expected epochs of the history, got {kept.epoch}")


def _check_array(
    name: str, values: np.ndarray, shape: tuple[int, ...], kinds: str = "biuf"
) -> None:
    if values.shape != shape or values.dtype.kind not in kinds:
        raise ValueError(
            f"expected an array {name} of shape {shape}, got {values.dtype} of shape "
            f"{values.shape}"
        )
