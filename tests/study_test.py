"""The page of the whole study: verdicts follow the tables, and it is sound HTML."""

import collections
import dataclasses
import html
import html.parser
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

import jax
import pytest
from sweep_process import ROOT, run

from experiments import study_runs
from experiments.cells import BUDGETS, Cell, cells
from experiments.cli import claims, made
from experiments.cli.claims import HERE
from experiments.cli.verdicts import Verdict
from experiments.study import commands, kind
from experiments.study_claims import CAPTIONS, OURS, PARTS, STUDY
from lvm_jax.files import table


def _kept(level, truths, dataset="IMG"):
    """Runs of a level with so many truths each."""
    return [
        {
            "dataset": dataset,
            "level": level,
            "setting": "study",
            "seed": seed,
            "objective": -12.0,
            "num_discarded": level - truths,
            "num_kept": truths,
            "num_recovered": truths - (seed % 8 == 0),
            "num_recovered_after_filter": truths - (seed % 8 == 0),
            "held_out_log_likelihood": -12.0 + truths / 10 + seed / 1000,
            "held_out_log_likelihood_is_bound": level > 20,
            "diverged": False,
        }
        for seed in range(32)
    ]


def _study(*flags):
    done = run("study", *flags)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.split("\n")]
    return {line[0]: line[1] for line in lines[2:] if len(line) > 1}


class _Page(html.parser.HTMLParser):
    """What a page has of ids, links and labels, and which elements are open."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.labels, self.open = collections.Counter(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids[attributes["id"]] += 1
        for name in ("href", "xlink:href", "src", "aria-labelledby"):
            if name in attributes:
                self.links.append((name, attributes[name]))
        for value in attributes.values():
            self.links += [
                ("url", of) for of in re.findall(r"url\((.*?)\)", value or "")
            ]
        if attributes.get("role") in ("img", "region"):
            self.labels.append(attributes["aria-label"])
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open[-1:] == [tag]:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_claim_has_the_commands_of_its_cells():
    for claim in (*STUDY, *OURS):
        lines = commands(claim)
        assert lines
        for line, name in zip(lines, claim.cells, strict=True):
            assert line.startswith("python -m experiments.")
            assert f"runs/{claim.part.name}/{name}" in line or name == "course"


@pytest.mark.slow  # Decides every claim twice.
def test_the_page_is_whole_and_asks_for_nothing(tmp_path):
    verdicts = _study(f"--report={tmp_path / 'report.html'}")
    text = (tmp_path / "report.html").read_text()
    page = _Page(text)
    assert not page.open and max(page.ids.values()) == 1
    for name, link in page.links:
        target = link if name == "aria-labelledby" else link.removeprefix("#")
        assert target in page.ids and (name == "aria-labelledby" or link[0] == "#"), (
            link
        )
    addresses = set(re.findall(r"https?://[^\s\"<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in text and "@import" not in text
    assert text.count("<svg") >= 5 and len(page.labels) == len(set(page.labels)) > 20
    readme = (ROOT / "README.md").read_text()
    report = (HERE / "report.html").read_text()
    for claim, word in verdicts.items():
        assert any(label.startswith(claim) for label in page.labels) or (
            word == "no results yet"
        )
        assert f"| {claim} | {word} |" in readme
        for of in (text, report):
            (row,) = re.findall(rf">{re.escape(claim)}</a></td>\n(.*?)</td>", of)
            assert row.endswith(f" {word}")


def test_a_figure_has_a_caption_and_stands_once(tmp_path):
    every = (*STUDY, *OURS)
    assert {claim.figure for claim in every} - {""} == CAPTIONS.keys()
    text = (HERE / "report.html").read_text()
    drawn = [claim.figure for claim in every if claim.figure]
    assert text.count("<figcaption>") == len(CAPTIONS)
    assert text.count("Figure: that of <a href=") == len(drawn) - len(CAPTIONS)
    for claim in every:
        if claim.amended:
            assert html.escape(claim.amended, quote=False).split(":")[0] in text


_MEASURE = """<iframe id="page" width="{width}" height="800" srcdoc="{text}"></iframe>
<script>window.onload = () => {{
  const root = document.getElementById("page").contentDocument.documentElement;
  document.title = root.scrollWidth + " " + root.scrollHeight;
}}</script>"""


@pytest.mark.slow  # Starts a browser.
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page_without_scrolling_sideways(tmp_path, width):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    text = html.escape((HERE / "report.html").read_text())
    page = tmp_path / "page.html"
    page.write_text(_MEASURE.format(width=width, text=text))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    flags.append(f"--user-data-dir={tmp_path / 'profile'}")
    done = subprocess.run(
        [chromium, *flags, f"--window-size={width + 50},900", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shown, height = re.search(r"<title>(\d+) (\d+)</title>", done.stdout).groups()
    assert int(shown) <= width and int(height) > 5000


def test_verdicts_follow_the_data_and_what_is_lacking_is_said(tmp_path):
    five = "IMG", "PLNT", "UNIF", "CON8", "CON24"
    for datasets, truths, word in (
        (five[:1], (3, 8, 8), "undecided"),
        (five, (3, 8, 8), "holds"),
        (five[:1], (8, 3, 3), "fails"),
    ):
        (tmp_path / "noisy_or").mkdir(exist_ok=True)
        for name in datasets:
            rows = [
                row
                for level, number in zip((8, 16, 32), truths, strict=True)
                for row in _kept(level, number, name)
            ]
            table.write_rows(tmp_path / "noisy_or" / f"{name}_main.csv", rows)
        report = tmp_path / "report.html"
        verdicts = _study(f"--tables={tmp_path}", f"--report={report}")
        claim = "Larger models recover more of the true latent variables."
        assert verdicts.pop(claim) == word
        assert list(verdicts.values()).count("no results yet") > 10
        text = report.read_text()
        assert "Not there: misspecified of IMG-FLIP, IMG-UNIF." in text
        assert "(32 runs of a level on a sample; intervals are over runs on one" in text


def test_tables_of_another_version_are_shown_as_such(tmp_path):
    (tmp_path / "noisy_or").mkdir()
    table.write_rows(tmp_path / "noisy_or" / "IMG_main.csv", [{"level": 8, "seed": 1}])
    verdicts = _study(f"--tables={tmp_path}", f"--report={tmp_path / 'report.html'}")
    assert set(verdicts.values()) == {"no results yet"}
    text = (tmp_path / "report.html").read_text()
    assert "a column &#39;num_recovered&#39; of IMG_main in noisy_or/." in text


def _lacking(part, folder):
    """Names of tables that sections want and an empty folder has not."""
    tables = claims.Tables(folder)
    names = set()
    for section in part.sections.values():
        for line in filter(lambda of: isinstance(of, str), section(tables)):
            if of_cell := re.fullmatch(r"Not there: (\w+) of (.*)\.", line):
                kind_, datasets = of_cell.groups()
                names |= {f"{dataset}_{kind_}" for dataset in datasets.split(", ")}
            elif of_names := re.fullmatch(r"Not there: (.*)\.", line):
                names |= set(of_names[1].split(", "))
    return names


_OF_COURSE = {"moments", "starts", "settled", "contentions", "contenders"}


def test_the_cells_of_the_paper_make_every_table(tmp_path):
    named = {}
    for cell in cells(BUDGETS["paper"], "RELEASE"):
        named.setdefault(cell.part, []).extend(cell.tables.values())
    for part in PARTS:
        asked = _lacking(part, tmp_path) - _OF_COURSE
        least = {"sparse_coding": 5, "neural_pcfg": 8}.get(part.name, 15)
        assert len(asked) >= least and asked <= set(named[part.name])
        assert len(named[part.name]) == len(set(named[part.name]))


def test_a_smaller_budget_has_cells_of_the_same_names_and_fewer_runs():
    of_budgets = {
        name: {(cell.part, cell.name): cell for cell in cells(budget)}
        for name, budget in BUDGETS.items()
    }
    for small, large in (("smoke", "laptop"), ("laptop", "paper")):
        for place, cell in of_budgets[small].items():
            other = of_budgets[large][place]
            assert cell.binary == other.binary and cell.tables == other.tables
            assert cell.num_runs <= other.num_runs and cell.cost <= other.cost
    assert of_budgets["paper"]["noisy_or", "IMG_main"].num_runs == 96


def _fake_cells(tmp_path, monkeypatch, status):
    """Two cells whose process writes a table and ends, and what has run."""
    asked = [
        Cell("noisy_or", name, "noisy_or", {"dataset": name}, {"kept.csv": name})
        for name in ("IMG", "UNIF")
    ]
    ran = []

    def end(_, command):
        workdir = pathlib.Path(command[-1].removeprefix("--workdir="))
        ran.append(workdir.name)
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "kept.csv").write_text("level\n8\n")
        about = {"made": made.here(jax.devices()[:1])}
        (workdir / "flags.json").write_text(json.dumps(about))
        return status.get(workdir.name, 0), 1.0

    monkeypatch.setattr(study_runs._Processes, "run", end)
    return asked, ran


def test_cells_run_once_and_a_failure_stops_no_other(tmp_path, monkeypatch):
    status = {"IMG": 2}
    asked, ran = _fake_cells(tmp_path, monkeypatch, status)
    (study_runs.tables(tmp_path) / "noisy_or").mkdir(parents=True)
    (study_runs.tables(tmp_path) / "noisy_or" / "UNIF.csv").touch()  # Of no use.
    failures = study_runs.run(asked, tmp_path)
    assert failures == ["noisy_or IMG ended with status 2"] and ran == ["IMG", "UNIF"]
    assert [study_runs.is_done(cell, tmp_path) for cell in asked] == [False, True]
    *lines, total = study_runs.describe(asked, tmp_path)
    assert len(lines) == 1 and "--dataset=IMG" in lines[0]
    assert total.startswith("1 of 2 cells are missing: 48 runs")
    status.clear()
    assert study_runs.run(asked, tmp_path) == []
    assert ran == ["IMG", "UNIF", "IMG"]
    table_ = study_runs.tables(tmp_path) / "noisy_or" / "IMG.csv"
    assert table_.read_text() == "level\n8\n"
    known = made.read(table_.parent)
    (how,) = set(known.values())
    assert list(known) == ["IMG", "UNIF"] and how.machine.startswith("1 core of ")
    assert made.lines(["IMG", "CON8", "UNIF"], known) == [
        f"IMG, UNIF: {how.date}, {how.machine}, JAX {jax.__version__}",
        "CON8: not known when and where",
    ]


def test_a_cell_that_leaves_no_table_stops_no_other(tmp_path, monkeypatch):
    (first, other), ran = _fake_cells(tmp_path, monkeypatch, {})
    first = dataclasses.replace(first, tables={"other.csv": "IMG"})
    workdir = tmp_path / "noisy_or" / "IMG"
    failures = study_runs.run([first, other], tmp_path)
    assert failures == [f"noisy_or IMG ended without {workdir / 'other.csv'}"]
    assert ran == ["IMG", "UNIF"] and study_runs.is_done(other, tmp_path)


def test_a_signal_stops_all_cells(tmp_path, monkeypatch):
    asked, ran = _fake_cells(tmp_path, monkeypatch, {"IMG": 143})
    with pytest.raises(SystemExit) as stopped:
        study_runs.run(asked, tmp_path)
    assert stopped.value.code == 143 and ran == ["IMG"]


def test_a_signal_is_passed_on():
    child = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "import os; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    before, processes = signal.getsignal(signal.SIGTERM), study_runs._Processes()
    with study_runs._sharing_cores(processes, 1) as threads:
        ended = threads.submit(processes.run, [sys.executable, "-c", child])
        assert ended.result()[0] == 143
        late = threads.submit(processes.run, [sys.executable, "-c", "while True: pass"])
        assert late.result()[0] == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_jobs_share_the_cores_and_wait_for_what_they_read(tmp_path, monkeypatch):
    cores, events = os.sched_getaffinity(0), []
    if len(cores) < 2:
        pytest.skip("one core has no shares")
    both = threading.Barrier(2, timeout=60)

    def end(_, command):
        name = pathlib.Path(command[-1].removeprefix("--workdir=")).name
        events.append(("start", name, frozenset(os.sched_getaffinity(0))))
        if name != "course":
            both.wait()
        workdir = tmp_path / "dynamics" / name
        workdir.mkdir(parents=True)
        (workdir / "kept.csv").touch()
        events.append(("end", name, None))
        return 0, 1.0

    monkeypatch.setattr(study_runs._Processes, "run", end)
    some = {"dataset": "IMG"}
    asked = [
        Cell("dynamics", name, "dynamics", some, {"kept.csv": name}, runs)
        for name, runs in (("early", 1), ("late", 1), ("course", 0))
    ]
    assert study_runs.run(asked, tmp_path, jobs=2) == []
    assert [name for _, name, _ in events][-2:] == ["course"] * 2
    (_, first, some), (_, second, others) = events[:2]
    assert {first, second} == {"early", "late"}
    assert some | others == cores and not some & others
    with pytest.raises(ValueError, match=f"at most {len(cores)} jobs, one a core"):
        study_runs.run(asked, tmp_path, jobs=len(cores) + 1)


def test_a_budget_needs_a_workdir_and_is_planned_without_one(tmp_path):
    for given, message in (
        (["--budget=smoke"], "--budget with --workdir"),
        (["--dry_run"], "expected --budget with --dry_run, got none"),
        (
            ["--budget=smoke", f"--workdir={tmp_path}", "--tables=a"],
            "expected --budget or --tables, got both",
        ),
    ):
        refused = run("study", *given)
        assert refused.returncode == 2 and message in refused.stderr
    flags = ("--budget=smoke", f"--workdir={tmp_path / 'run'}", "--dry_run")
    planned = run("study", *flags)
    assert planned.returncode == 0, planned.stderr
    *lines, total = planned.stdout.splitlines()
    assert all(line.startswith("python -m experiments.") for line in lines)
    assert total.startswith(f"{len(lines)} of {len(lines)} cells are missing")
    assert not (tmp_path / "run").exists()


def test_verdicts_together_fail_where_one_does():
    def of(*says):
        return kind([Verdict("", dict(enumerate(says)))])

    assert of("holds", "holds") == "holds"
    assert of("holds", "refuted", "undecided") == "fails"
    assert of("holds", "undecided") == "undecided"
    assert of("holds", "not decided: data sets are lacking") == "undecided"
    assert of("surplus does not matter from 1 on") == "measured"
    assert kind([]) == "none"
