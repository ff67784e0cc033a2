"""Whose a directory of results is: what is held, refused, removed and left alone."""

import contextlib
import fcntl
import functools
import itertools
import os
import pathlib
import shutil
import threading
import warnings

import pytest
from matplotlib.figure import Figure

import lvm_jax
from lvm_jax import sparse_coding
from lvm_jax.report import style
from lvm_jax.training import ownership, workdir

_IDENTITY = {"data": {"gamma": 30.0}, "batch_size": 20}


def _task():
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, num_samples=60)
    return sparse_coding.task(dataset, num_held_out=10)


def _plan(seeds=(0, 1), batch_size=10):
    settings = {"study": sparse_coding.AlternatingMinimizationHyperparams()}
    return lvm_jax.Plan(
        levels=(4,), seeds=seeds, settings=settings, batch_size=batch_size
    )


def _train(path, **arguments):
    arguments = {"plan": _plan(), "num_epochs": 2, **arguments}
    return lvm_jax.train(
        _task(), workdir=path, progress=lambda progress: None, **arguments
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with all that a sweep leaves, a figure among it."""
    path = tmp_path_factory.mktemp("trained") / "run"
    _train(path)
    style.save(Figure(), path / workdir.FIGURES / "recovered.png")
    workdir.write_json(path / workdir.FLAGS, {})
    return path


@pytest.fixture
def run(tmp_path, trained):
    return shutil.copytree(trained, tmp_path / "run")


def _content(path):
    """Every file by its path, a link by where it leads."""
    return {
        entry.relative_to(path).as_posix(): (
            os.readlink(entry) if entry.is_symlink() else entry.read_bytes()
        )
        for entry in sorted(path.rglob("*"))
        if entry.is_symlink() or entry.is_file()
    }


def _refused(path, match, **arguments):
    """A call that says so, and has changed nothing."""
    before = _content(path)
    with pytest.raises((ValueError, OSError), match=match) as refused:
        _train(path, **arguments)
    assert _content(path) == before
    return refused.value


def test_a_new_workdir_that_is_refused_is_gone(tmp_path):
    with pytest.raises(ValueError, match="memory limit"):
        _train(tmp_path / "a" / "b" / "run", memory_limit=0)
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    _refused(tmp_path / "run", "memory limit", memory_limit=0)


def _somebody_else_s(path):
    (path / "thesis.tex").write_text("all of it")


def _older_format(path):
    (path / "flags.json").write_text('{"format": 1}')


def _plan_of_another_program(path):
    (path / "plan.json").write_text('{"format": 2, "identity": {}, "steps": []}')
    (path / "figures").mkdir()
    (path / "figures" / "mine.png").write_bytes(b"\x89PNG mine")


def _no_json(path):
    (path / "plan.json").write_text("[" * 100_000)


def _lock_of_another_program(path):
    (path / ".lock").write_text("secrets")


def _lock_that_leads_elsewhere(path):
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_text("secrets")
    (path / ".lock").symlink_to(elsewhere)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (_somebody_else_s, "which has other files"),
        (_older_format, "which has other files"),
        (_plan_of_another_program, r"of format 'lvm_jax \d', got .* of format 2"),
        (_no_json, "expected JSON"),
        (_lock_of_another_program, "expected the lock of a sweep"),
        (_lock_that_leads_elsewhere, "symbolic links"),
    ],
)
def test_what_is_not_ours_is_refused_and_left(tmp_path, make, match, overwrite):
    path = tmp_path / "run"
    path.mkdir()
    make(path)
    error = _refused(path, match, overwrite=overwrite)
    assert not isinstance(error, workdir.WorkdirError)  # "--overwrite starts anew"
    assert (tmp_path / "elsewhere").exists() == (path / ".lock").is_symlink()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["figures", "waves", "waves/0000", "waves/0000/checkpoints"]
)
def test_a_folder_that_leads_elsewhere_is_refused(run, name, overwrite):
    elsewhere = run.parent / "elsewhere"
    shutil.move(run / name, elsewhere)
    before = _content(elsewhere)
    (run / name).symlink_to(elsewhere)
    _refused(run, f"got the link {run / name}", overwrite=overwrite, num_epochs=4)
    assert _content(elsewhere) == before


def test_a_file_that_leads_elsewhere_is_not_written_through(run):
    elsewhere = run.parent / "elsewhere"
    elsewhere.write_text("mine")
    for name in (".history.csv.partial", "kept.csv", ".plan.json.partial"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(elsewhere)
    _train(run, num_epochs=3)
    assert elsewhere.read_text() == "mine"
    assert not (run / "kept.csv").is_symlink()


def test_overwriting_leaves_what_is_not_ours_and_names_it(run):
    others = {
        "notes.txt": b"mine",
        "figures/mine.png": b"\x89PNG mine",
        "waves/0000/history/copy.npz": b"mine",
        "waves/notes/0001": b"mine",
    }
    for name, content in others.items():
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(content)
    with pytest.warns(UserWarning, match="keeps") as warned:
        anew = _train(run, plan=_plan((5,)), overwrite=True)
    (warning,) = {str(each.message) for each in warned}
    named = ["figures/mine.png", "notes.txt", "waves/0000/history/copy.npz"]
    assert warning.endswith(f": {', '.join([*named, 'waves/notes'])}")
    assert {name: (run / name).read_bytes() for name in others} == others
    assert not (run / "figures" / "recovered.png").exists()
    assert not (run / workdir.FLAGS).exists()
    assert lvm_jax.load(run).plan.seeds == anew.plan.seeds == (5,)


def test_nothing_is_removed_before_all_is_checked(run):
    _refused(run, "memory limit", overwrite=True, memory_limit=1)
    _refused(run, "a batch of at most 50", overwrite=True, plan=_plan(batch_size=60))
    with _held_by_another_thread(run):
        _refused(run, f"in use by process {os.getpid()} on", overwrite=True)
    before = _content(run)
    with pytest.raises(lvm_jax.Stopped):
        _train(run, overwrite=True, stop=lambda: True)
    assert _content(run) == before


@contextlib.contextmanager
def _held_by_another_thread(path):
    held, done = threading.Event(), threading.Event()

    def hold():
        with ownership.opened(path, None):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    yield
    done.set()
    thread.join()


def test_who_holds_a_workdir_may_train_in_it(run):
    with ownership.opened(run, None):
        _train(run, num_epochs=3)
        assert f"process {os.getpid()} " in (run / ".lock").read_text()
    assert not (run / ".lock").read_text()


def test_a_lock_that_has_been_let_go_of_holds_nothing(tmp_path, monkeypatch):
    """Its file is gone, and another run may hold one of the same name."""
    path, flock = tmp_path / "run", fcntl.flock

    def late(file, operation):
        (path / ".lock").unlink()
        (path / ".lock").touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ValueError, match="which another has just let go of"):
        _train(path)


@pytest.mark.parametrize(
    "name", ["waves/0000/history", "waves/0000/checkpoints", "waves/0000", "figures"]
)
def test_a_file_in_the_place_of_a_folder_is_refused_before_clearing(run, name):
    shutil.rmtree(run / name)
    (run / name).touch()
    _refused(run, f"expected a folder, got the file {run / name}", overwrite=True)


def test_clearing_waits_for_no_pipe_and_leaves_empty_folders(run):
    os.mkfifo(run / "figures" / "pipe.png")
    (run / "waves" / "mine" / "empty").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"keeps .*: figures/pipe\.png, waves/mine"):
        _train(run, overwrite=True)
    assert (run / "waves" / "mine" / "empty").is_dir()


@pytest.mark.parametrize("number", range(0, 10, 2))
def test_a_stop_while_clearing_leaves_the_old_or_nothing(run, monkeypatch, number):
    """Whichever file is about to be moved or removed."""
    (run / "notes.txt").write_text("mine")
    before, calls = _content(run), itertools.count()

    def stopping(original, *arguments):
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        for owner, name in ((os, "replace"), (pathlib.Path, "unlink")):
            original = functools.partial(stopping, getattr(owner, name))
            patch.setattr(owner, name, lambda *args, do=original: do(*args))
        with pytest.raises(KeyboardInterrupt), ownership.opened(run, None):
            ownership.clear(run)
    if (run / workdir.PLAN).exists():
        assert _content(run) == before
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anew = _train(run, plan=_plan((5,)))
    assert anew.plan.seeds == (5,) and (run / "notes.txt").read_text() == "mine"
    assert not (run / "figures").exists()


def test_a_kill_while_a_workdir_is_made_leaves_it_usable(tmp_path):
    (tmp_path / ".plan.json.partial").write_text("{")
    (tmp_path / ".lock").write_text("process 1 on a host\n")
    _train(tmp_path)
    assert lvm_jax.load(tmp_path).plan.seeds == (0, 1)


def test_another_format_is_refused_unless_overwriting(run):
    about = workdir.read_json(run / workdir.PLAN)
    workdir.write_json(run / workdir.PLAN, about | {"format": "lvm_jax 9"})
    error = _refused(run, "of format 'lvm_jax 9'")
    assert isinstance(error, workdir.WorkdirError)
    _train(run, overwrite=True)


@pytest.mark.parametrize("name", ["plan.json", "waves/0000/wave.json"])
@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"lvm_jax"', "{}", '{"levels": 4, "settings": [], "seeds": {}}'],
)
def test_json_of_another_shape_is_refused(run, name, text):
    (run / name).write_text(text)
    _refused(run, "expected")


def test_json_of_another_shape_with_our_mark_is_refused(run):
    for identity in (None, [], "x"):
        about = {"format": "lvm_jax 3", "identity": identity}
        workdir.write_json(run / workdir.PLAN, about)
        _refused(run, "expected what .* was made with")


def test_a_wave_whose_runs_are_said_to_be_others_is_refused(run):
    wave = run / "waves" / "0000" / "wave.json"
    workdir.write_json(wave, workdir.read_json(wave) | {"seeds": [1, 0]})
    _refused(run, "expected a checkpoint of the wave's levels, settings and seeds")
