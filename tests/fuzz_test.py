"""Hostile flags, tables, archives and workdirs, drawn by hypothesis.

Whatever comes, a reader returns what it promises or raises one line, a binary ends with
one line and status 2, and a workdir goes on to the same results or is left as it was.
"""

import io
import os
import pathlib
import shutil
import stat
import tempfile
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sweep_process import run as run_binary

import lvm_jax
from lvm_jax import noisy_or, pcfg, sparse_coding
from lvm_jax.files import archive

pytestmark = pytest.mark.slow


def _examples(number):
    """So many examples, the same ones every time."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # to shrink an example takes minutes
        suppress_health_check=list(HealthCheck),
    )


def _check_refused(error):
    assert isinstance(error, (ValueError, OSError)), repr(error)
    assert len(str(error).splitlines()) == 1, str(error)


# Flags.

_NUMBERS = ["-1", "0", "1e9", "1e400", "nan", "inf", "", " ", "3.5", "9" * 30, "0x10"]
_TEXTS = ["", "-", "$x$", "\n", "a\nb", "é", "nowhere/at/all", "/dev/null", "/", "1,2"]
_WHOLE = ["num_seeds", "epochs", "batch_size", "records_per_epoch", "epochs_per_call"]
_WHOLE += ["checkpoint_every", "devices", "block", "seed", "data_seed", "num_samples"]
_WHOLE += ["held_out", "num_processes", "process_id", "join_seconds", "memory_limit"]
_FLAGS = {
    "noisy_or": ["theta_rate", "q_rate", "critic", "dataset", "data_dir", "samples"],
    "sparse_coding": ["step_size", "threshold", "gamma", "sparsity", "precision"],
    "neural_pcfg": [
        *("learning_rate", "grammar", "corpus", "mode", "min_words", "max_words"),
        *("num_buckets", "radius", "sharpness", "true_symbols", "truth_only"),
    ],
}
_SMALL = ["--levels=2,3", "--num_seeds=2", "--num_samples=60", "--batch_size=4"]


@st.composite
def _command_lines(draw):
    binary = draw(st.sampled_from(sorted(_FLAGS)))
    names = st.sampled_from([*_FLAGS[binary], *_WHOLE, "levels", "flagfile", "bogus"])
    values = st.sampled_from(_NUMBERS + _TEXTS)
    flags = st.builds("--{}={}".format, names, values)
    return binary, draw(st.lists(flags, min_size=1, max_size=3))


@_examples(25)
@given(_command_lines())
def test_flags(command_line):
    binary, flags = command_line
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "run")
        done = run_binary(binary, "--workdir", path, "--dry_run", *_SMALL, *flags)
        assert done.returncode in (0, 2), (flags, done)
        assert not list(pathlib.Path(folder).iterdir())
    lines = done.stderr.splitlines()
    assert len(lines) == (done.returncode == 2), (flags, done.stderr)
    assert all(line.startswith("error: ") for line in lines)


# Tables and archives.

_CELLS = ["0", "1", "2", "-1", "0.5", "nan", "", "x", "é", "1e999", '"', "\0", "\ufeff"]
_MARKS = [",", ",", ";", "\t", " ", "\n", "\n", "\r\n", "\u2028"]
_TABLES = st.one_of(
    st.lists(st.sampled_from(_CELLS + _MARKS), max_size=40).map("".join),
    st.lists(
        st.lists(st.sampled_from(_CELLS[:5]), min_size=2, max_size=3).map(",".join),
        max_size=6,
    ).map("\n".join),
).map(str.encode)
_FIRST_LINES = [b"", b"2 2\n", b"-1 3\n", b"9999999999999 2\n", b"\x80"]


@_examples(3000)
@given(st.sampled_from(["csv", "txt", "npy", "npz"]), _TABLES | st.binary())
def test_samples(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"mine.{suffix}")
        path.write_bytes(content)
        try:
            samples = lvm_jax.read_samples(path)
        except (ValueError, OSError) as error:
            _check_refused(error)
            return
    assert samples.ndim == 2 and samples.size and np.isfinite(samples).all()


@_examples(1000)
@given(st.sampled_from(_FIRST_LINES), _TABLES | st.binary())
def test_truths_and_corpora_as_text(first, content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "truth.dat")
        path.write_bytes(first + content)
        for read in (
            noisy_or.read_truth,
            lambda path: pcfg.read_corpus(path, vocabulary=5, max_words=5),
        ):
            try:
                read(path)
            except (ValueError, OSError) as error:
                _check_refused(error)


def _member(draw):
    header = draw(
        st.sampled_from(
            [
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
                "{'descr': '<f8', 'fortran_order': True, 'shape': (50000000000,), }",
                "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
                "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }",
                "{'descr': 3}",
                "[" * 500,
            ]
        )
    )
    text = header.encode() + b"\n"
    body = draw(st.sampled_from([b"", bytes(24), bytes(10**6), b"\x80\x04."]))
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@st.composite
def _archives(draw):
    """Zip files of members that are arrays, or say so."""
    file = io.BytesIO()
    names = st.sampled_from(
        ["prior", "failure", "noise", "about", "x", "../x", "kept/8"]
    )
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as packed:
        warnings.simplefilter("ignore")  # of names that are there twice
        for _ in range(draw(st.integers(0, 4))):
            name = draw(names) + draw(st.sampled_from([".npy", ".npy", "", ".txt"]))
            kind = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
            packed.writestr(name, _member(draw), kind)
    return file.getvalue()


@st.composite
def _damaged(draw, content):
    """Bytes that are cut, changed in places, or repeated."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


def _network():
    """A true network as an archive."""
    file = io.BytesIO()
    np.savez(file, prior=[0.3], failure=[[0.1, 0.9]], noise=[0.9, 0.8])
    return file.getvalue()


@_examples(1500)
@given(st.one_of(_archives(), _damaged(_network()), st.binary()))
def test_archives(content):
    readers = [archive.read, noisy_or.read_truth, sparse_coding.read_truth]
    readers += [pcfg.read_grammar, lvm_jax.read_samples]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "results.npz")
        path.write_bytes(content)
        for read in [*readers, lambda path: lvm_jax.load(path.parent)]:
            try:
                read(path)
            except (ValueError, OSError) as error:
                _check_refused(error)


# Workdirs.


def _train(path, epochs=4):
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, num_samples=60)
    plan = lvm_jax.Plan(
        levels=(4,),
        seeds=(0, 1),
        settings={"study": sparse_coding.AlternatingMinimizationHyperparams()},
        batch_size=10,
        epochs_per_call=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lvm_jax.train(
            sparse_coding.task(dataset, num_held_out=10),
            plan,
            epochs,
            workdir=path,
            checkpoint_every=1,
            progress=lambda _: None,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir, and what one more epoch gives."""
    path = tmp_path_factory.mktemp("trained")
    _train(path / "run")
    return path / "run", _train(path / "whole", 5)


def _content(path):
    """Everything below a path, by what it is."""
    found = {}
    for entry in sorted(path.rglob("*")):
        mode = entry.lstat().st_mode
        name = entry.relative_to(path).as_posix()
        if stat.S_ISLNK(mode):
            found[name] = os.readlink(entry)
        elif stat.S_ISREG(mode):
            found[name] = entry.read_bytes()
        else:
            found[name] = stat.S_IFMT(mode)
    if found.get(".lock") == b"":  # of nobody
        del found[".lock"]
    return found


_JSON = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"format": "lvm_jax 3"}',
    b"[" * 100_000,
    b"\xff",
]


@st.composite
def _damages(draw):
    """Where, what, and with which bytes."""
    what = ["cut", "change", "remove", "json", "folder", "pipe", "link", "beside"]
    return draw(
        st.lists(
            st.tuples(st.integers(0, 99), st.sampled_from(what), st.integers(0, 10**6)),
            min_size=1,
            max_size=3,
        )
    )


def _damage(path, what, number, elsewhere):
    if what == "beside":
        path.with_name(["notes.txt", "0007", "copy-of.npz", ".x"][number % 4]).touch()
        return
    data = bytearray(path.read_bytes()) if path.is_file() else bytearray(b"x")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if what == "cut":
        path.write_bytes(data[: number % (len(data) + 1)])
    elif what == "change" and data:
        data[number % len(data)] ^= 1 + number % 255
        path.write_bytes(data)
    elif what == "json":
        path.write_bytes(_JSON[number % len(_JSON)])
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(elsewhere)


@_examples(100)
@given(_damages())
def test_workdirs(trained, damages):
    whole, expected = trained
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = pathlib.Path(folder, "elsewhere")
        elsewhere.mkdir()
        (elsewhere / "mine").write_text("mine")
        path = shutil.copytree(whole, pathlib.Path(folder, "run"))
        for place, what, number in damages:
            entries = [entry for entry in sorted(path.rglob("*")) if entry.lstat()]
            if entries:
                _damage(entries[place % len(entries)], what, number, elsewhere)
        before = _content(path)
        try:
            results = _train(path, 5)
        except (ValueError, OSError) as error:
            _check_refused(error)
            assert _content(path) == before, damages
        else:
            for name, values in expected.history.items():
                np.testing.assert_array_equal(results.history[name], values)
        assert _content(elsewhere) == {"mine": b"mine"}
