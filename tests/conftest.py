"""Two host devices for every test, and reference data where it is at hand."""

import gc
import os
import pathlib
import tempfile

import jax
import pytest
from sweep_process import SweepProcess

# What is imported stays, and compilation makes many objects and few cycles.
gc.freeze()
gc.set_threshold(50_000)
jax.config.update("jax_num_cpu_devices", 2)
# Most of a test is compilation, and most of that LLVM's passes; XLA's own still run.
jax.config.update("jax_disable_most_optimizations", True)
# What one process of a session has compiled the others read, and no home's cache is
# looked at. The name reaches them by the environment.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
if _CACHE not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix="lvm_jax_compiled_")
    os.environ[_CACHE] = _folder.name
jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

_REFERENCE = pathlib.Path(__file__).parents[2] / "shared" / "reference_data"

_LONGEST = [
    *("contract_test", "distributed_test", "training_test", "noisy_or_binary_test"),
    *("neural_pcfg_test", "resume_test", "readme_test", "faults_test"),
]


def pytest_collection_modifyitems(items):
    """Starts with the files that take longest, so that the workers end together."""
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def _reference(name: str) -> pathlib.Path:
    path = _REFERENCE / name
    if not path.is_dir():
        pytest.skip(f"no reference data in {path}")
    return path


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    return _reference("golden")


@pytest.fixture(scope="session")
def release_dir() -> pathlib.Path:
    return _reference("release")


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The workdir of a sweep that nothing interrupts."""
    path = tmp_path_factory.mktemp("reference") / "run"
    sweep = SweepProcess(path)
    assert sweep.wait() == 0, sweep.text
    return path
