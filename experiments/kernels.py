"""What a program compiled for a GPU launches: its loops, kernels, bytes and products.

Read from the text of its optimised HLO, https://openxla.org/xla/operation_semantics.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
_SIZES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_HEAD = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(
    r"(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[a-z][\w\-]*)"
    r"\((?P<arguments>[^)]*)\)(?P<rest>.*)"
)
_PARTS = ("dynamic-slice", "gather")  # which read a part of their first operand
_UPDATE = "dynamic-update-slice"
_FREE = {"bitcast", "constant", "get-tuple-element", "parameter", "tuple"}


class Instruction(NamedTuple):
    """A line of HLO."""

    name: str
    kind: str
    op: str
    arguments: str
    rest: str
    is_root: bool

    @property
    def operands(self) -> list[str]:
        """Names of the instructions that it takes."""
        return re.findall(r"%([\w.\-]+)", self.arguments)

    @property
    def called_target(self) -> str:
        """What a custom call calls; nothing of another operation."""
        found = re.search(r'\bcustom_call_target="([^"]*)"', self.rest)
        return found.group(1) if found else ""

    def called(self, how: str) -> str | None:
        """The computation that it names as `calls`, `body`, ..."""
        found = re.search(rf"\b{how}=%([\w.\-]+)", self.rest)
        return found.group(1) if found else None


class Kernel(NamedTuple):
    """A kernel that is launched.

    Attributes:
      name: of its instruction.
      num_bytes: that it reads and writes, each operand once.
      flop: of its matrix products.
    """

    name: str
    num_bytes: int
    flop: int

    def seconds(self, latency: float, bandwidth: float, speed: float) -> float:
        """How long it takes at least.

        Args:
          latency: seconds that any kernel takes.
          bandwidth: bytes a second.
          speed: FLOP a second.
        """
        return max(latency, self.num_bytes / bandwidth, self.flop / speed)


class Loop(NamedTuple):
    """A loop, the whole program, or a part of it that is called once.

    Attributes:
      trips: how often its body runs; None where the text does not say.
      kernels: of its body.
      loops: in its body.
    """

    trips: int | None
    kernels: tuple[Kernel, ...]
    loops: tuple["Loop", ...]

    def launched(self) -> Iterator[tuple[Kernel, int]]:
        """Kernels of a trip, and how often each; loops of unknown length run once."""
        for kernel in self.kernels:
            yield kernel, 1
        for loop in self.loops:
            for kernel, number in loop.launched():
                yield kernel, number * (loop.trips or 1)

    def total(self, of: Callable[[Kernel], float]) -> float:
        """The sum of a number of each kernel that a trip launches."""
        return sum(number * of(kernel) for kernel, number in self.launched())

    def launches(self) -> int:
        """How many kernels a trip launches."""
        return self.total(lambda _: 1)

    def find(self, trips: int) -> Iterator["Loop"]:
        """The loops in it that run so often."""
        for loop in self.loops:
            if loop.trips == trips:
                yield loop
            yield from loop.find(trips)


def read(text: str) -> Loop:
    """The loops and kernels of a program.

    Args:
      text: optimised HLO, as `jax.stages.Compiled.as_text` gives it.

    Raises:
      ValueError: if it has no entry.
    """
    computations, entry = {}, None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if head := _HEAD.match(line):
            name = head.group(2)
            entry = name if head.group(1) else entry
            lines = computations[name] = []
        elif found := _INSTRUCTION.match(line.strip()):
            *parts, is_root = found.group(
                "name", "type", "op", "arguments", "rest", "root"
            )
            lines.append(Instruction(*parts, bool(is_root)))
    if entry is None:
        raise ValueError("expected the text of a compiled program, got none")
    return _loop(computations, entry, 1)


def _loop(computations, name: str, trips: int | None) -> Loop:
    body = computations[name]
    kinds = {line.name: line.kind for line in body}
    kernels, loops = [], []
    for line in body:
        if line.op == "while":
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.rest)
            count = int(known.group(1)) if known else None
            loops.append(_loop(computations, line.called("body"), count))
        elif line.op == "call":
            loops.append(_loop(computations, line.called("to_apply"), 1))
        elif line.op not in _FREE:
            inside = computations.get(line.called("calls") or "", [line])
            read = [kinds.get(name, "") for name in line.operands]
            num_bytes = _num_read(read, inside) + _num_written(line, inside)
            kernels.append(Kernel(line.name, num_bytes, _flop(inside, kinds)))
    return Loop(trips, tuple(kernels), tuple(loops))


def _num_bytes(kind: str) -> int:
    """Bytes of all arrays of a type."""
    return sum(
        _SIZES.get(name, 0) * math.prod(_shape(shape))
        for name, shape in _ARRAY.findall(kind)
    )


def _shape(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


def _num_read(operands: Sequence[str], inside: Sequence[Instruction]) -> int:
    """Bytes of the operands of a kernel; of one that it takes parts of, of the parts.

    Args:
      operands: their types.
      inside: what the kernel computes.
    """
    parameters = [line for line in inside if line.op == "parameter"]
    names = {int(line.arguments): line.name for line in parameters}
    total = 0
    for index, kind in enumerate(operands):
        name = names.get(index)
        users = [line for line in inside if name in line.operands]
        are_first = users and all(user.operands[0] == name for user in users)
        if are_first and all(user.op in _PARTS for user in users):
            total += sum(_num_bytes(user.kind) for user in users)
        elif not are_first or any(user.op != _UPDATE for user in users):
            total += _num_bytes(kind)
    return total


def _num_written(kernel: Instruction, inside: Sequence[Instruction]) -> int:
    """Bytes of what a kernel returns; of an update in place, of what is new."""
    kinds = {line.name: line.kind for line in inside}
    for line in inside:
        if line.is_root and line.op == _UPDATE and len(inside) > 1:
            return _num_bytes(kinds[line.operands[1]])
    return _num_bytes(kernel.kind)


def _flop(inside: Sequence[Instruction], outside: dict[str, str]) -> int:
    """FLOP of a kernel's matrix products, two for multiplying and adding."""
    kinds = outside | {inner.name: inner.kind for inner in inside}
    total = 0
    for inner in inside:
        if "gemm" in inner.called_target:
            raise ValueError(
                f"expected products as dots, got {inner.name} of a library"
            )
        if inner.op != "dot":
            continue
        dims = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", inner.rest)
        ((_, of_left),) = _ARRAY.findall(kinds[inner.operands[0]])
        ((_, of_result),) = _ARRAY.findall(inner.kind)
        left = _shape(of_left)
        contracted = [left[dim] for dim in _shape(dims.group(1))]
        total += 2 * math.prod(_shape(of_result)) * math.prod(contracted)
    return total
