"""Sweeps that are killed, told to stop, or find their files damaged.

Sweeps run as processes forked from one that has the imports done, each with the
command line of the binary.
"""

import ctypes
import json
import multiprocessing
import os
import pathlib
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import time

import pytest

from lvm_jax import archive, results, workdir
from lvm_jax.waves import Wave

_MODULE = "experiments.sparse_coding"
_FLAGS = [
    *("--levels=4,5", "--num_seeds=3", "--epochs=60", "--checkpoint_every=4"),
    *("--epochs_per_call=2", "--num_samples=400", "--held_out=60", "--gamma=30"),
    "--block=1",  # several in a row
]
_TABLES = (results.HISTORY, results.KEPT, results.LEARNED, results.TRUTH)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([_MODULE, "lvm_jax.checkpoint"])


def _drop_capabilities():
    """Lets file modes hold for root, too: capset(2) with no capability."""
    header, nothing = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)
    assert ctypes.CDLL(None).capset(header, nothing) == 0


def _main(arguments, output, limit, is_privileged):
    """The binary in a process of its own, as `python -m` would run it."""
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["sparse_coding", *arguments]
    if not is_privileged:
        _drop_capabilities()
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from experiments import cli, sparse_coding

    cli.run(sparse_coding.main)


class _Sweep:
    """A running sweep."""

    def __init__(
        self,
        path: pathlib.Path,
        *more: str,
        output=None,
        limit=0,
        is_privileged=True,
    ):
        self.path = path
        self.output = output or path.with_name(f"{path.name}.{time.monotonic_ns()}.log")
        self.output.touch()
        arguments = [f"--workdir={path}", *_FLAGS, *more]
        self.process = _context.Process(
            target=_main, args=(arguments, str(self.output), limit, is_privileged)
        )
        self.process.start()

    def wait(self) -> int:
        self.process.join(120)
        assert self.process.exitcode is not None, self.text
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.output.read_text().replace("\r", "\n")

    def wait_for_checkpoint(self, after: int = 0) -> None:
        """Returns once a checkpoint later than the epoch `after` is whole."""
        deadline = time.monotonic() + 60
        while max(_checkpoints(self.path), default=0) <= after:
            assert time.monotonic() < deadline and self.process.is_alive(), self.text
            time.sleep(0.005)

    @property
    def error(self) -> str:
        """The line that it ended with."""
        return self.text.strip().splitlines()[-1]


def _checkpoints(path: pathlib.Path) -> list[int]:
    directory = path / "waves" / "0000" / "checkpoints"
    return sorted(
        int(entry.name) for entry in directory.glob("*") if entry.name.isdigit()
    )


def _read(path: pathlib.Path) -> dict[str, bytes]:
    files = [path / name for name in _TABLES] + sorted((path / "figures").iterdir())
    return {file.name: file.read_bytes() for file in files}


def _check_same(path: pathlib.Path, reference: pathlib.Path) -> None:
    """Tables, parameters and figures are equal bit for bit."""
    found, expected = _read(path), _read(reference)
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name] == expected[name], name


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A sweep that nothing interrupts."""
    path = tmp_path_factory.mktemp("reference") / "run"
    sweep = _Sweep(path)
    assert sweep.wait() == 0, sweep.text
    return path


def test_twenty_kills_change_nothing(tmp_path):
    """Wherever a sweep is killed, the end is the same bit for bit."""
    random_ = random.Random(0)
    epochs = 200
    reference = _Sweep(tmp_path / "reference", f"--epochs={epochs}")
    assert reference.wait() == 0, reference.text
    path = tmp_path / "run"
    reached = []
    while len(reached) < 20:
        sweep = _Sweep(path, f"--epochs={epochs}")
        if len(reached) % 2:
            sweep.wait_for_checkpoint(max(reached))
            time.sleep(random_.uniform(0, 0.2))
        else:
            time.sleep(random_.uniform(0, 1.5))
        os.kill(sweep.process.pid, signal.SIGKILL)
        assert sweep.wait() == -signal.SIGKILL, sweep.text
        reached.append(max(_checkpoints(path), default=0))
    assert len(set(reached)) > 8
    sweep = _Sweep(path, f"--epochs={epochs}")
    assert sweep.wait() == 0, sweep.text
    _check_same(path, tmp_path / "reference")
    rows = results.read_rows(path / results.HISTORY)
    places = [(row["level"], row["seed"], row["epoch"]) for row in rows]
    assert places == [
        (level, seed, epoch)
        for level in (4, 5)
        for seed in range(3)
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_running_call(tmp_path, reference, number):
    path = tmp_path / "run"
    sweep = _Sweep(path, "--checkpoint_every=1000")
    while "by level" not in sweep.text:
        time.sleep(0.01)
    os.kill(sweep.process.pid, number)
    assert sweep.wait() == 128 + number, sweep.text
    (reached,) = _checkpoints(path)
    assert 0 < reached < 60 and not (path / results.KEPT).exists()
    assert _Sweep(path).wait() == 0
    _check_same(path, reference)


def test_a_second_signal_stops_at_once(tmp_path):
    path = tmp_path / "run"
    sweep = _Sweep(path, "--epochs=1000000", "--epochs_per_call=1000000")
    while "by level" not in sweep.text:
        time.sleep(0.01)
    os.kill(sweep.process.pid, signal.SIGINT)
    sweep.process.join(2)
    assert sweep.process.is_alive()
    os.kill(sweep.process.pid, signal.SIGINT)
    assert sweep.wait() == 128 + signal.SIGINT
    assert not _checkpoints(path)


def _largest(directory: pathlib.Path) -> pathlib.Path:
    files = [file for file in directory.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def _truncate(file: pathlib.Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: pathlib.Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep killed on its way."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    sweep = _Sweep(path)
    sweep.wait_for_checkpoint(20)
    os.kill(sweep.process.pid, signal.SIGKILL)
    sweep.wait()
    assert len(_checkpoints(path)) > 1
    return path


@pytest.mark.parametrize("damage", [_truncate, _flip])
@pytest.mark.parametrize("kind", ["checkpoint", "history"])
def test_a_damaged_checkpoint_is_named_and_not_used(
    tmp_path, interrupted, reference, damage, kind
):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    newest = max(_checkpoints(path))
    if kind == "checkpoint":
        damage(_largest(path / "waves/0000/checkpoints" / str(newest)))
    else:
        damage(next((path / "waves/0000/history").glob(f"*-{newest:08d}.npz")))
    sweep = _Sweep(path)
    assert sweep.wait() == 0, sweep.text
    (warning,) = [line for line in sweep.text.splitlines() if "is damaged" in line]
    assert f"checkpoint of epoch {newest} " in warning
    _check_same(path, reference)


def test_without_a_whole_checkpoint_nothing_is_removed(tmp_path, interrupted):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    before = _checkpoints(path)
    _truncate(min((path / "waves/0000/history").iterdir()))
    sweep = _Sweep(path)
    assert sweep.wait() == 2, sweep.text
    assert f"got {len(before)} that cannot be read" in sweep.error
    assert _checkpoints(path) == before
    _check_refused(_Sweep(path, "--gamma=31"), "gamma=31.0 (there 30.0)")


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    tmp_path, interrupted, reference
):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    before = _checkpoints(path)
    sweep = _Sweep(path, limit=2000)
    assert sweep.wait() == 2, sweep.text
    assert sweep.error.startswith("error: "), sweep.text
    assert "Traceback" not in sweep.text
    assert set(before) & set(_checkpoints(path))
    sweep = _Sweep(path)
    assert sweep.wait() == 0, sweep.text
    assert "is damaged" not in sweep.text
    _check_same(path, reference)


def _check_refused(sweep: _Sweep, message: str) -> None:
    assert sweep.wait() == 2
    assert message in sweep.error and len(sweep.text.splitlines()) == 1, sweep.text


def test_a_workdir_in_use_is_refused(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    with workdir.opened(path, json.loads((path / results.FLAGS).read_text())["flags"]):
        _check_refused(_Sweep(path), f"in use by process {os.getpid()} on")


def test_a_newer_format_is_refused(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    (path / results.FLAGS).write_text('{"format": 9}')
    _check_refused(_Sweep(path), "expected a workdir of format 1")


def test_other_flags_are_refused_by_name_unless_overwriting(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    _check_refused(_Sweep(path, "--threshold=0.01"), "threshold=0.01 (there 0.005)")
    _check_same(path, reference)
    sweep = _Sweep(path, "--step_size=0.2", "--epochs=1", "--overwrite")
    assert sweep.wait() == 0, sweep.text
    assert _checkpoints(path) == [1]


def test_a_kill_while_a_workdir_is_made_or_cleared_leaves_it_usable(
    tmp_path, reference
):
    """What is left is an empty workdir, or one that only --overwrite goes on with."""
    made = tmp_path / "made"
    made.mkdir()
    (made / ".flags.json.partial").write_text("{")
    with workdir.opened(made, {}):
        pass
    cleared = tmp_path / "cleared"
    shutil.copytree(reference, cleared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", _stop)
        with (
            pytest.raises(KeyboardInterrupt),
            workdir.opened(cleared, {}, overwrite=True),
        ):
            pass
    with pytest.raises(ValueError, match="of format 0; --overwrite"):
        workdir.opened(cleared, {}).__enter__()
    with workdir.opened(cleared, {}, overwrite=True):
        assert workdir.waves(cleared) == []


def _stop(path):
    raise KeyboardInterrupt


def test_waves_are_those_with_a_checkpoint_and_none_is_missing(tmp_path):
    for index in range(3):
        directory = workdir.add_wave(tmp_path, index, Wave((8,), (index,)))
        if index < 2:
            (directory / "checkpoints" / "5").mkdir(parents=True)
    assert workdir.waves(tmp_path) == [Wave((8,), (0,)), Wave((8,), (1,))]
    shutil.rmtree(tmp_path / "waves" / "0000")
    with pytest.raises(ValueError, match=r"expected waves 0000 .*got 0001"):
        workdir.waves(tmp_path)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    _check_refused(_Sweep(tmp_path, "--overwrite"), "which has other files")
    assert (tmp_path / "thesis.tex").exists()


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    path = pathlib.Path("/proc/lvm_jax")
    _check_refused(_Sweep(path, output=tmp_path / "log"), str(path))


def test_a_read_only_workdir_is_refused_and_left_as_it_is(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    for entry in [path, *path.rglob("*")]:
        entry.chmod(entry.stat().st_mode & ~0o222)
    sweep = _Sweep(path, "--epochs=64", is_privileged=False)
    _check_refused(sweep, "Permission denied")
    _check_same(path, reference)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(ValueError, match="pickled"):
        archive.read(path)


def test_more_epochs_and_runs_add_to_what_is_there(tmp_path, reference):
    """To the results of a sweep asked for at once, bit for bit."""
    path = tmp_path / "run"
    few = _Sweep(path, "--levels=4", "--num_seeds=2", "--epochs=10")
    assert few.wait() == 0, few.text
    sweep = _Sweep(path)
    assert sweep.wait() == 0, sweep.text
    assert len(workdir.waves(path)) == 3 and "| 10/60 " in sweep.text
    _check_same(path, reference)


def test_a_plan_in_waves_is_printed_and_then_trained(tmp_path):
    path = tmp_path / "run"
    flags = ["--memory_limit=0.2", "--devices=1", "--epochs=2"]
    planned = _Sweep(path, "--dry_run", *flags)
    assert planned.wait() == 0, planned.text
    plan = planned.text.splitlines()
    assert len(plan) > 1 and all("MiB a device" in line for line in plan)
    assert not path.exists()
    trained = _Sweep(path, *flags)
    assert trained.wait() == 0, trained.text
    assert [line for line in trained.text.splitlines() if "MiB" in line] == plan
    assert len(results.read_rows(path / results.KEPT)) == 6
