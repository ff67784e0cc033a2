"""Sweeps that are killed, told to stop, asked for more, or cut into waves."""

import os
import signal
import time

import pytest
from sweep_process import SweepProcess, check_same, checkpoints

from lvm_jax.files import table
from lvm_jax.training import workdir

pytestmark = pytest.mark.slow  # Two processes or more in each.


def _wait_for_file(name):
    def wait(sweep):
        while not (sweep.path / name).exists():
            assert sweep.process.is_alive(), sweep.text
            time.sleep(0.001)

    return wait


def _wait_for_next_checkpoint(sweep):
    sweep.wait_for_checkpoint(max(checkpoints(sweep.path), default=0))


# What is waited for before a kill, of the library or of the binary, and whether there
# is a checkpoint then.
_KILLS = [
    (lambda sweep: time.sleep(0.2), False, False),
    (_wait_for_file(workdir.PLAN), True, False),
    (_wait_for_file("waves/0000/wave.json"), False, False),
    (_wait_for_next_checkpoint, True, True),
    (SweepProcess.wait_for_training, False, True),
    (_wait_for_next_checkpoint, True, True),
    (_wait_for_next_checkpoint, False, True),
    (_wait_for_file(workdir.RESULTS), False, True),
    (_wait_for_file(f"{workdir.FIGURES}/recovered.png"), False, True),
]


def test_kills_from_start_to_report_change_nothing(tmp_path, reference):
    """Of the binary and of the library in turn: the end is the same bit for bit."""
    path = tmp_path / "run"
    reached = [0]
    for wait, is_library, has_checkpoint in _KILLS:
        sweep = SweepProcess(path, is_library=is_library)
        wait(sweep)
        assert sweep.kill() == -signal.SIGKILL, sweep.text
        reached.append(max(checkpoints(path), default=0))
        assert (reached[-1] > 0) == has_checkpoint
    assert reached == sorted(reached) and len(set(reached)) > 4
    sweep = SweepProcess(path)
    assert sweep.wait() == 0, sweep.text
    check_same(path, reference)
    rows = table.read_rows(path / workdir.HISTORY)
    places = [(row["level"], row["seed"], row["epoch"]) for row in rows]
    assert places == [
        (level, seed, epoch)
        for level in (4, 5)
        for seed in range(3)
        for epoch in range(1, 61)
    ]


@pytest.mark.parametrize(
    ("number", "is_library"), [(signal.SIGINT, False), (signal.SIGTERM, True)]
)
def test_a_signal_saves_the_running_call(tmp_path, reference, number, is_library):
    path = tmp_path / "run"
    sweep = SweepProcess(path, "--checkpoint_every=1000", is_library=is_library)
    sweep.wait_for_training()
    os.kill(sweep.process.pid, number)
    assert sweep.wait() == 128 + number, sweep.text
    (reached,) = checkpoints(path)
    assert 0 < reached < 60 and not (path / workdir.KEPT).exists()
    assert SweepProcess(path).wait() == 0
    check_same(path, reference)


def test_a_second_signal_stops_at_once(tmp_path):
    path = tmp_path / "run"
    sweep = SweepProcess(path, "--epochs=1000000", "--epochs_per_call=1000000")
    sweep.wait_for_training()
    os.kill(sweep.process.pid, signal.SIGINT)
    sweep.process.join(2)
    assert sweep.process.is_alive()
    os.kill(sweep.process.pid, signal.SIGINT)
    assert sweep.wait() == 128 + signal.SIGINT
    assert not checkpoints(path)


def test_more_epochs_and_runs_add_to_what_is_there(tmp_path, reference):
    """To the results of a sweep asked for at once, bit for bit."""
    path = tmp_path / "run"
    few = SweepProcess(
        path, "--levels=4", "--num_seeds=2", "--epochs=10", is_library=True
    )
    assert few.wait() == 0, few.text
    sweep = SweepProcess(path)
    assert sweep.wait() == 0, sweep.text
    assert len(list((path / "waves").iterdir())) == 3 and "| 10/60 " in sweep.text
    check_same(path, reference)


def test_a_plan_in_waves_is_printed_and_then_trained(tmp_path):
    path = tmp_path / "run"
    flags = ["--memory_limit=0.22", "--epochs=2"]
    planned = SweepProcess(path, "--dry_run", *flags)
    assert planned.wait() == 0, planned.text
    setting, *plan = planned.text.splitlines()
    numbers = "step_size=0.1 threshold=0.005 guard=0"
    assert setting == f"setting default: {numbers} at 4, 5"
    assert len(plan) > 1 and all("MiB a device" in line for line in plan)
    assert not path.exists()
    trained = SweepProcess(path, *flags)
    assert trained.wait() == 0, trained.text
    assert [line for line in trained.text.splitlines() if "MiB" in line] == plan
    other = SweepProcess(tmp_path / "other", *flags, is_library=True)
    assert other.wait() == 0, other.text
    check_same(tmp_path / "other", path)
    assert len(table.read_rows(path / workdir.KEPT)) == 6
