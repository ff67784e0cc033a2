"""A binary as a process, in an environment that it does not expect."""

import os
import signal
import subprocess
import sys

import pytest
from sweep_process import ROOT, SHAPE, run

from lvm_jax.training import workdir as layout


@pytest.mark.slow  # Four processes.
def test_the_environment_changes_no_bit_or_is_refused_by_name(tmp_path):
    """A sweep that is resumed under other settings of JAX, or of XLA."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path, epochs in ((whole, 4), (cut, 2)):
        done = run("noisy_or", "--workdir", path, f"--epochs={epochs}", *SHAPE)
        assert done.returncode == 0, done.stderr
    refused = "--xla_cpu_enable_fast_math=true --xla_dump_to=/nowhere"
    resumed = "--workdir", cut, "--epochs=4", *SHAPE
    done = run("noisy_or", *resumed, XLA_FLAGS=refused)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "XLA_FLAGS=['--xla_cpu_enable_fast_math=true'] (there [])" in line
    others = {
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_RANDOM_SEED_OFFSET": "3",
        "JAX_DEBUG_NANS": "1",
        "JAX_DEBUG_KEY_REUSE": "1",
        "JAX_TRANSFER_GUARD": "disallow",
        "HOME": "/proc/nowhere",
    }
    quickly = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_or", *map(str, resumed)],
        cwd=ROOT,
        env=os.environ | quickly | others,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "epoch/s" not in line] == []
    for name in (layout.HISTORY, layout.KEPT, layout.RESULTS, layout.DATA):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_or", f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: expected devices of the platform cuda, got none")


def test_a_signal_while_modules_load_is_quiet(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "experiments.noisy_or"]
    with subprocess.Popen(
        [*command, "--workdir", str(tmp_path / "run")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.split()[-1] == "numpy":
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    assert all(line.startswith("import time:") for line in rest.splitlines()), rest
