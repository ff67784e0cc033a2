"""Levels x settings x seeds on one axis of runs, trained in compiled chunks of epochs.

The sweep knows runs, levels, data, keys and devices, and no model. All groups of its
plan train in one compiled call, each sharded over the devices and vmapped over its
runs, or over one block of them after the other. Data, truth and hyperparameters are
arguments of the compiled program, which sweeps of the same shapes share.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lvm_jax.numerics import key_from_data
from lvm_jax.sweep import devices as jobs
from lvm_jax.sweep.plan import (
    CPU_BLOCK,
    Group,
    Plan,
    groups,
    live_mask,
    run_key,
    size,
)
from lvm_jax.sweep.program import (
    AXIS,
    Compiled,
    Function,
    Program,
    compiled,
    init_runs,
    jitted,
)
from lvm_jax.sweep.run import Data, Record, Run, buckets, count_samples, count_steps
from lvm_jax.types import Task, level_name


class Chunk(NamedTuple):
    """What one compiled call has done.

    Attributes:
      epoch: the epoch reached.
      runs: a stacked Run for each group; consumed when the next chunk is asked for.
      records: a Record for each group, of host arrays [R, E] over its runs and the
        records of the call's epochs.
    """

    epoch: int
    runs: tuple[Run, ...]
    records: tuple[Record, ...]


class Memory(NamedTuple):
    """Bytes that a device needs for a sweep.

    Attributes:
      data: of the samples and the truth, on every device.
      per_run: of one run's state, twice where it cannot be updated in place, of its
        records, and its share of what the runs that train at once compute with.
      runs: runs of a device, spare ones included.
    """

    data: int
    per_run: float
    runs: int

    @property
    def total(self) -> float:
        """Bytes of the data and of all runs of a device."""
        return self.data + self.runs * self.per_run


class Sweep:
    """A sweep of one task's learner over levels, settings and seeds.

    Holds only what is static: the state of the runs goes in and comes out.

    Attributes:
      task: what is learned from what.
      plan: what is trained.
      groups: its runs by width.
    """

    def __init__(
        self, task: Task, plan: Plan, *, devices: Sequence[jax.Device] | None = None
    ):
        """Plans the sweep and puts its data on the devices.

        Args:
          task: what is learned from what.
          plan: what is trained.
          devices: to spread the runs over; all of them if None.

        Raises:
          ValueError: if a batch is larger than the training data or a bucket of them,
            an epoch's steps cannot be cut into its records, or a level cannot fit into
            memory.
        """
        self.task = task
        self.plan = plan
        self.groups = groups(plan)
        _check_batches(task.train, plan)
        mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
        block = plan.block
        if block is None and mesh.devices[0].platform == "cpu":
            block = CPU_BLOCK
        self._program = Program(
            Function(task.learner),
            Function(task.recover) if task.has_recovery else None,
            Function(task.trace) if task.trace else None,
            plan.schedule,
            block,
            mesh,
        )
        self._sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        data = Data(**task.data)
        with self._settings():
            self._data = jax.device_put(
                jax.tree.map(functools.partial(_as_precision, plan.precision), data),
                NamedSharding(mesh, PartitionSpec()),
            )
        self._check_levels()

    def _check_levels(self) -> None:
        """Refuses a level of which a device cannot hold the runs that train at once.

        By their state alone, before anything is compiled or made.

        Raises:
          ValueError: if there is one.
        """
        available = jobs.memory(self._program.mesh.devices.flat)
        for group, runs in zip(self.groups, self._padded_shapes, strict=True):
            num_bytes = sum(
                math.prod(leaf.shape) * leaf.dtype.itemsize
                for leaf in jax.tree.leaves(runs)
            )
            needed = num_bytes // self._num_padded(group) * (self.block or 1)
            if needed > available:
                raise ValueError(
                    f"expected levels that fit into {available / 2**30:.3g} GiB of a "
                    f"device, got {level_name(group.runs[-1].level)}, of which a block "
                    f"of runs needs {needed / 2**30:.3g} GiB or more"
                )

    def _settings(self):
        return jobs.settings(self.plan.precision)

    @functools.cached_property
    def _chunk(self) -> Compiled:
        """The compiled chunk of epochs, for the shapes of this sweep."""
        leaves, treedef = jax.tree.flatten(self._chunk_shapes(self._program.mesh))
        return compiled(self._program, self.plan.precision, treedef, tuple(leaves))

    def _chunk_shapes(self, mesh: Mesh) -> tuple[Data, tuple[Run, ...], Any]:
        """Shapes and types of a chunk's arguments, and where they lie."""

        def on(spec, tree):
            sharding = NamedSharding(mesh, spec)
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=sharding
                ),
                tree,
            )

        span = jax.tree.map(jax.typeof, (np.int32(0), np.int32(0)))
        return (
            on(PartitionSpec(), self._data),
            on(PartitionSpec(AXIS), self._padded_shapes),
            span,
        )

    def lower(self, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
        """The chunk of epochs, lowered for devices that need not be there.

        Args:
          devices: for example of a topology of `jax.experimental.topologies`. Their
            number divides that of the runs of each group, spare ones included.

        Returns:
          What `compile` makes the program of these devices of.
        """
        mesh = Mesh(np.array(devices), (AXIS,))
        with self._settings():
            chunk = jitted(self._program._replace(mesh=mesh)).chunk
            return chunk.lower(*self._chunk_shapes(mesh))

    @functools.cached_property
    def _padded_shapes(self) -> tuple[Run, ...]:
        """Shapes and types of the runs of each group, spare ones included."""
        init = functools.partial(init_runs, self._program, self._data.train)
        with self._settings():
            return tuple(
                jax.eval_shape(init, self._start_shapes(group)) for group in self.groups
            )

    def _start_shapes(self, group: Group) -> tuple[Any, Any, Any]:
        """Shapes and types of `_start`, which may be too large to be made."""
        num, dtype = self._num_padded(group), np.dtype(self.plan.precision)
        first = group.runs[0]
        return (
            jax.ShapeDtypeStruct((num, 2), np.uint32),
            jax.tree.map(
                lambda size: jax.ShapeDtypeStruct((num, size), dtype), group.width
            ),
            jax.tree.map(
                lambda _: jax.ShapeDtypeStruct((num,), dtype),
                self.plan.hyperparams(first.level, first.setting),
            ),
        )

    @property
    def _padded_records(self) -> tuple[Record, ...]:
        """Shapes and types of the records of a call; compiles the sweep."""
        with self._settings():
            return self._chunk.results[1]

    def run_shapes(self) -> tuple[Run, ...]:
        """Shapes and types of what `gather` returns."""
        numbers = [
            jax.eval_shape(lambda run: _with_key(run, jax.random.key_data), run)
            for run in self._padded_shapes
        ]

        def cut(leaf, group):
            shape = len(group.runs), *leaf.shape[1:]
            return jax.ShapeDtypeStruct(shape, leaf.dtype)

        return self._by_group(cut, numbers)

    def record_shapes(self, num_epochs: int) -> tuple[Record, ...]:
        """Shapes and types of the records of so many epochs; compiles the sweep."""
        num_records = num_epochs * self.plan.records_per_epoch

        def cut(leaf, group):
            shape = len(group.runs), num_records, *leaf.shape[3:]
            return jax.ShapeDtypeStruct(shape, leaf.dtype)

        return self._by_group(cut, self._padded_records)

    def _by_group(self, function, trees) -> tuple[Any, ...]:
        """Applies (leaf, group) -> leaf to the tree of each group."""
        return tuple(
            jax.tree.map(functools.partial(function, group=group), tree)
            for group, tree in zip(self.groups, trees, strict=True)
        )

    def memory(self) -> Memory:
        """What a device needs, as the compiler has planned it; compiles the sweep."""
        with self._settings():
            used = self._chunk.call.memory_analysis()
        data = sum(leaf.nbytes for leaf in jax.tree.leaves(self._data))
        total = (
            used.argument_size_in_bytes
            + used.output_size_in_bytes
            + used.temp_size_in_bytes
            - used.alias_size_in_bytes
        )
        runs = sum(map(self._num_padded, self.groups)) // self.num_devices
        return Memory(data, max(total - data, 0) / runs, runs)

    @functools.cached_property
    def metric(self) -> str:
        """The first of the held-out metrics; compiles the sweep."""
        metrics = self._padded_records[0].held_out
        if not metrics:
            raise ValueError("expected a metric of `evaluate` at least, got none")
        return next(iter(metrics))

    @property
    def num_truths(self) -> int | None:
        """T, true latents; None without a truth."""
        task = self.task
        if not task.has_recovery:
            return None

        def matched(run):
            learner = task.learner(run.hyperparams)
            model = learner.model(run.state.params, run.live)
            data = self._data
            return task.recover(data.truth, model, run.live, data.held_out).matched

        with self._settings():
            run = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                self._padded_shapes[0],
            )
            return jax.eval_shape(matched, run).shape[0]

    @property
    def block(self) -> int | None:
        """Runs that a device computes at once; None for all of them."""
        return self._program.block

    @property
    def num_devices(self) -> int:
        """Devices that the runs are spread over."""
        return self._program.mesh.size

    @property
    def num_runs(self) -> int:
        """Runs of all groups, without spare ones."""
        return sum(len(group.runs) for group in self.groups)

    @property
    def num_at_once(self) -> int:
        """Runs of a group that train side by side, at least: a block on each device."""
        return self.num_devices * (self.block or 1)

    def padding(self) -> float:
        """The share of latents, over all runs, that are padding or of spare runs."""
        latents = sum(size(run.level) for group in self.groups for run in group.runs)
        padded = sum(
            size(group.width) * self._num_padded(group) for group in self.groups
        )
        return 1 - latents / padded

    def _num_padded(self, group: Group) -> int:
        return len(group.runs) + -len(group.runs) % self.num_at_once

    def _start(self, group: Group) -> tuple[np.ndarray, Any, Any]:
        """Key data, masks and hyperparameters of a group's runs.

        Filled up with repeats of the last run.
        """
        runs = list(group.runs)
        runs += runs[-1:] * (self._num_padded(group) - len(runs))
        starts = [
            (
                jax.device_get(jax.random.key_data(run_key(run.seed, run.level))),
                *jax.tree.map(
                    functools.partial(np.asarray, dtype=self.plan.precision),
                    (
                        live_mask(run.level, group.width),
                        self.plan.hyperparams(run.level, run.setting),
                    ),
                ),
            )
            for run in runs
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *starts)

    def init(self) -> tuple[Run, ...]:
        """The runs before the first epoch, a stacked Run for each group.

        A group is filled up to whole blocks on every device with repeats of its last
        run.
        """
        init = jitted(self._program).init
        with self._settings():
            return tuple(
                init(self._data.train, self._start(group)) for group in self.groups
            )

    def gather(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Copies runs to the host, without spare ones and with keys as numbers.

        Args:
          runs: from `init` or a chunk. With several processes, all call this, and
            all get all runs.

        Returns:
          A Run of arrays for each group, which training does not touch.
        """
        with self._settings():
            gathered = _gather([_with_key(run, jax.random.key_data) for run in runs])
        return self._by_group(lambda leaf, group: leaf[: len(group.runs)], gathered)

    def has(self, runs: tuple[Run, ...]) -> bool:
        """Whether runs from `gather` are of this sweep's seeds, levels and settings."""

        def is_own(run, group):
            # Seed and level make the key; a learner may have revised the mask.
            keys, _, hyperparams = self._start(group)
            found, own = (run.key, run.hyperparams), (keys, hyperparams)
            own = jax.tree.map(lambda leaf: leaf[: len(run.key)], own)
            return jax.tree.all(jax.tree.map(np.array_equal, found, own))

        return all(map(is_own, runs, self.groups))

    def place(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Puts runs from `gather` on this sweep's devices, however many there are."""

        def on_devices(leaf, group):
            spare = np.repeat(leaf[-1:], self._num_padded(group) - len(leaf), axis=0)
            leaf = np.concatenate([leaf, spare])
            return jax.make_array_from_callback(
                leaf.shape, self._sharding, lambda index: leaf[index]
            )

        with self._settings():
            placed = self._by_group(on_devices, runs)
            return tuple(_with_key(run, key_from_data) for run in placed)

    def train(self, runs: tuple[Run, ...], start: int, stop: int) -> Iterator[Chunk]:
        """Trains from after epoch `start` to `stop`, a compiled call at a time.

        Args:
          runs: from `init`, `place` or an earlier chunk. They are consumed.
          start: the epoch that they have reached.
          stop: the epoch to reach.

        Yields:
          A Chunk after each compiled call.
        """
        for done in range(start, stop, self.plan.epochs_per_call):
            count = min(self.plan.epochs_per_call, stop - done)
            with self._settings():
                span = (np.int32(done), np.int32(count))
                runs, records = self._chunk.call(self._data, runs, span)
                gathered = _gather(records)

            def of_call(leaf, group, count=count):
                leaf = leaf[: len(group.runs), :count]
                return leaf.reshape(len(leaf), -1, *leaf.shape[3:])

            yield Chunk(done + count, runs, self._by_group(of_call, gathered))


def _check_batches(train: Any, plan: Plan) -> None:
    least = min(map(count_samples, buckets(train)))
    if plan.batch_size > least:
        raise ValueError(
            f"expected a batch of at most {least}, the number of training samples, "
            f"got {plan.batch_size}"
        )
    num_steps = count_steps(train, plan.batch_size)
    if num_steps % plan.records_per_epoch:
        raise ValueError(
            f"expected records_per_epoch to divide the {num_steps} steps of an epoch, "
            f"got {plan.records_per_epoch}"
        )


def _as_precision(precision: str, leaf: Any) -> np.ndarray:
    """An array on the host with floating-point numbers of this precision."""
    array = np.asarray(leaf)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(precision)
    return array


def _with_key(run: Run, convert: Callable[[Any], Any]) -> Run:
    return run._replace(key=convert(run.key))


def _gather(tree: Any) -> Any:
    """Copies of arrays that are spread over devices, of other processes too."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)
