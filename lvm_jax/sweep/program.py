"""The compiled programs of sweeps, shared by sweeps of the same shapes.

A program is a learner, how it is compared with a truth, how training is cut, and the
devices. Data, truth, hyperparameters and masks are its arguments.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lvm_jax.numerics import key_from_data
from lvm_jax.sweep.plan import Schedule
from lvm_jax.sweep.run import Data, Record, Run, init_run, train_epoch

AXIS = "runs"
_MAX_PROGRAMS = 16  # kept compiled


class Function:
    """A function that equals others of the same code.

    Partial applications are told apart by what they apply: tasks that make them anew
    share a program.
    """

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._key = _key(function)

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        return self._function(*args)

    def __eq__(self, other):
        return isinstance(other, Function) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


def _key(function: Callable[..., Any]) -> Hashable:
    key = function
    if isinstance(function, functools.partial):
        keywords = sorted(function.keywords.items())
        values = [*function.args, *(value for _, value in keywords)]
        types = tuple(map(type, values))
        names = tuple(name for name, _ in keywords)
        key = _key(function.func), names, types, tuple(values)
    try:
        hash(key)
    except TypeError:
        return id(function)
    return key


class Program(NamedTuple):
    """What a compiled program depends on besides the shapes of its arguments."""

    make_learner: Function
    recover: Function | None
    trace: Function | None
    schedule: Schedule
    block: int | None
    mesh: Mesh


class Jitted(NamedTuple):
    """The functions of a program, which are traced once for arguments of one shape.

    Attributes:
      init: (train, start of a group) -> Run.
      chunk: (Data, Run of each group, span) -> (Runs, Records).
    """

    init: Callable[..., Any]
    chunk: Callable[..., Any]


@functools.lru_cache(_MAX_PROGRAMS)
def jitted(program: Program) -> Jitted:
    """The functions of a program, sharded over its devices."""
    runs, everywhere = PartitionSpec(AXIS), PartitionSpec()
    shard_map = functools.partial(
        jax.shard_map, mesh=program.mesh, out_specs=runs, check_vma=False
    )
    init = functools.partial(init_runs, program)
    chunk = functools.partial(_train_chunk, program)
    return Jitted(
        jax.jit(shard_map(init, in_specs=(everywhere, runs))),
        jax.jit(
            shard_map(chunk, in_specs=(everywhere, runs, everywhere)),
            donate_argnums=1,
        ),
    )


class Compiled(NamedTuple):
    """A chunk of epochs, compiled for arguments of some shapes.

    Attributes:
      call: the function.
      results: shapes and types of what it returns.
    """

    call: jax.stages.Compiled
    results: Any


@functools.lru_cache(_MAX_PROGRAMS)
def compiled(
    program: Program, precision: str, treedef: Any, leaves: tuple[Any, ...]
) -> Compiled:
    """The compiled chunk of epochs for arguments of these shapes."""
    del precision  # One of the settings that JAX compiles under.
    lowered = jitted(program).chunk.lower(*treedef.unflatten(leaves))
    return Compiled(lowered.compile(), lowered.out_info)


def init_runs(program: Program, train: Any, start: Any) -> Run:
    """The runs of a group, from key data [R, ...], masks and hyperparameters."""

    def init(start):
        key, live, hyperparams = start
        return init_run(
            program.make_learner, train, key_from_data(key), live, hyperparams
        )

    num_runs = len(jax.tree.leaves(start)[0])
    return jax.lax.map(init, start, batch_size=program.block or num_runs)


def _train_chunk(
    program: Program,
    data: Data,
    runs: tuple[Run, ...],
    span: tuple[chex.Array, chex.Array],
) -> tuple[tuple[Run, ...], tuple[Record, ...]]:
    """Trains every group of a device. The number of epochs is a traced value, so that
    one compiled program serves calls of any length up to `epochs_per_call`.

    The records are arrays [R, epochs_per_call, records_per_epoch].
    """
    start, count = span
    # Under jit the epoch is traced once, for its shapes and for its code.
    train_one_epoch = jax.jit(
        jax.vmap(
            functools.partial(
                train_epoch,
                program.make_learner,
                program.recover,
                program.trace,
                program.schedule,
                data,
            ),
            (0, None),
        )
    )

    def train_epochs(carry):
        def one_epoch(index, carry):
            runs, records = carry
            runs, record = train_one_epoch(runs, start + index + 1)
            records = jax.tree.map(
                lambda epochs, value: epochs.at[:, index].set(value), records, record
            )
            return runs, records

        return jax.lax.fori_loop(0, count, one_epoch, carry)

    def train_group(runs):
        block = program.block or len(runs.diverged)
        _, record = jax.eval_shape(
            lambda runs: train_one_epoch(_slice(runs, 0, block), start), runs
        )
        shape = len(runs.diverged), program.schedule.epochs_per_call
        records = jax.tree.map(
            lambda leaf: jnp.zeros((*shape, *leaf.shape[1:]), leaf.dtype), record
        )
        return _by_block(train_epochs, block, (runs, records))

    trained = [train_group(group) for group in runs]
    return tuple(runs for runs, _ in trained), tuple(records for _, records in trained)


def _slice(tree: Any, start: chex.Array, size: int) -> Any:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), tree
    )


def _by_block(function: Callable[[Any], Any], block: int, tree: Any) -> Any:
    """Applies a function to `block` rows of a tree at a time, each in their place.

    The number of rows is a multiple of `block`.
    """
    num_rows = len(jax.tree.leaves(tree)[0])
    if num_rows == block:
        return function(tree)

    def one_block(index, tree):
        start = index * block
        return jax.tree.map(
            lambda leaf, part: jax.lax.dynamic_update_slice_in_dim(
                leaf, part, start, axis=0
            ),
            tree,
            function(_slice(tree, start, block)),
        )

    return jax.lax.fori_loop(0, num_rows // block, one_block, tree)
