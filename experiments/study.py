r"""The whole study on one page: claims, rules, verdicts, tables, figures, commands.

    python -m experiments.study
    python -m experiments.study --report report.html
    python -m experiments.study --budget laptop --workdir runs/study

Decides every claim on the tables that are kept beside the code, and trains nothing:
prints a table of all claims, and writes a page that needs nothing but itself. Half a
minute. What has no table yet is shown as such. `--tables` may be another folder with
noisy_or/, sparse_coding/, neural_pcfg/, dynamics/ and recurring/ in it.

With --budget it runs what has no table in --workdir yet, main claims first, and decides
on the tables there: `smoke` touches the claims and decides none, five minutes of two
jobs on two cores; `laptop` has at most eight seeds, four truths of each kind, and a
fifth of the epochs where cells of a family of models name them; `paper` is the rules.
--dry_run prints the commands. It resumes after a signal or a kill. --jobs 2 runs two
commands at a time on half of the cores each, which is faster where they compile for as
long as they train.
"""

import functools
import io
import itertools
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jinja2
import matplotlib
from absl import flags
from matplotlib.figure import Figure

from experiments import cli, study_runs
from experiments.cells import BUDGETS, Cell, cells
from experiments.cli import claims, made
from experiments.cli.claims import HERE
from experiments.cli.tables import Tables, existing
from experiments.cli.verdicts import Block, Table, Verdict, show
from experiments.study_claims import CAPTIONS, OURS, PARTS, STUDY, Claim
from lvm_jax.files import atomic, regular

_MARKS = {"holds": "●", "fails": "▲", "undecided": "◆", "measured": "■", "none": "○"}
_WORDS = {"none": "no results yet"}
_NOT_ALL = "not all of its runs are there"
_AMENDED = "rule amended"
_MOST_NAMES = 3  # that a summary lists


class Decided(NamedTuple):
    """A claim and what the tables say.

    Attributes:
      claim: which.
      blocks: tables, text and the verdicts that count, of its sections.
      kind: holds, fails, undecided, measured, or none if there are no results.
      sources: lines that say how its tables were made.
      runs: how many there are of a level, or "".
    """

    claim: Claim
    blocks: list[Block]
    kind: str
    sources: list[str]
    runs: str

    @property
    def word(self) -> str:
        """The verdict in words."""
        return _WORDS.get(self.kind, self.kind)

    @property
    def mark(self) -> str:
        """A sign that tells it without colour."""
        return _MARKS[self.kind]

    @property
    def says(self) -> str:
        """All verdicts that count, in short."""
        parts = list(map(_in_short, _verdicts(self.blocks)))
        if parts and self.lacking:
            parts.append(_NOT_ALL)
        if parts and self.claim.amended:
            parts.append(_AMENDED)
        return "; ".join(parts)

    @property
    def lacking(self) -> list[str]:
        """What has no table yet."""
        return _lacking(self.blocks)


def _lacking(blocks: Iterable[Block]) -> list[str]:
    lines = [block for block in blocks if isinstance(block, str)]
    return [line for line in lines if line.startswith("Not there: ")]


def _verdicts(blocks: Iterable[Block]) -> list[Verdict]:
    return [block for block in blocks if isinstance(block, Verdict)]


def _in_short(verdict: Verdict) -> str:
    """A verdict by what it says, with what it says that of, or of how many."""
    groups = {}
    for of, says in verdict.says.items():
        groups.setdefault(says, []).append(of)
    num = len(verdict.says)
    texts = []
    for says, of in groups.items():
        is_short = num == 1 or (len(groups) > 1 and len(of) <= _MOST_NAMES)
        where = ", ".join(of) if is_short else f"{len(of)} of {num}"
        texts.append(f"{says} ({where})" if where else says)
    return f"{verdict.claim}: {', '.join(texts)}"


def kind(verdicts: Iterable[Verdict]) -> str:
    """What verdicts say together: of a claim that fails anywhere, that it fails."""
    says = [text for verdict in verdicts for text in verdict.says.values()]
    known = [text for text in says if re.match("holds|refuted|undecided|not ", text)]
    if not known:
        return "measured" if says else "none"
    if any(text.startswith("refuted") for text in known):
        return "fails"
    return "holds" if all(text.startswith("holds") for text in known) else "undecided"


def decide(claim: Claim, folder: pathlib.Path) -> Decided:
    """What tables say of a claim, which does not hold before all of them are there."""
    tables = Tables(folder / claim.part.name)
    blocks = [
        block
        for title, section in claim.part.sections.items()
        if title.startswith(claim.sections)
        for block in claims.blocks(section, tables)
        if not isinstance(block, Verdict)
        or block.claim.startswith(claim.verdicts or "")
    ]
    found = kind(_verdicts(blocks))
    if found == "holds" and _lacking(blocks):
        found = "undecided"
    if found == "none" and any(isinstance(block, Table) for block in blocks):
        found = "measured"
    sources = made.lines(tables.names, made.read(tables.folder))
    return Decided(claim, blocks, found, sources, _runs(tables.num_runs))


def _runs(numbers: Sequence[int]) -> str:
    """How many runs there are of a level, on one sample and with one setting."""
    several = [f"{number}" for number in dict.fromkeys((*numbers[:1], *numbers[-1:]))]
    return f"{' to '.join(several)} runs of a level on a sample" if several else ""


def inline(figure: Figure, prefix: str) -> str:
    """A figure as an element of a page, whose ids begin with a prefix."""
    file = io.StringIO()
    settings = {"svg.hashsalt": prefix, "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", text)


@functools.cache
def _known() -> dict[tuple[str, str], Cell]:
    """The cells of the rules by part and name."""
    return {(of.part, of.name): of for of in cells(BUDGETS["paper"], "RELEASE")}


def commands(claim: Claim) -> list[str]:
    """Those of its cells, by the rules; RELEASE is the folder of the published data."""
    own = (_known()[claim.part.name, name] for name in claim.cells)
    workdir = pathlib.Path("runs")
    return [f"python {shlex.join(study_runs.command(cell, workdir))}" for cell in own]


def page(decided: Mapping[str, list[Decided]], folder: pathlib.Path) -> str:
    """The page.

    Args:
      decided: claims under their headings.
      folder: of the folders of tables.
    """
    drawn = {}
    for part in PARTS:
        drawn |= claims.figures(part, Tables(folder / part.name))
    asked = [of.claim for some in decided.values() for of in some]
    places = {claim.figure: claim for claim in reversed(asked) if claim.figure in drawn}
    figures = {
        claim.name: inline(drawn[figure], claim.name)
        for figure, claim in places.items()
    }
    of_claims = {claim.name: commands(claim) for claim in asked}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["table"] = lambda block: isinstance(block, Table)
    environment.tests["verdict"] = lambda block: isinstance(block, Verdict)
    template = environment.get_template("study.html.jinja")
    return template.render(
        parts=decided,
        figures=figures,
        captions=CAPTIONS,
        places=places,
        commands=of_claims,
        marks=_MARKS,
        words=_WORDS,
    )


def _run() -> pathlib.Path:
    """Runs what is missing; the folder of all tables."""
    if (flags.FLAGS.budget is None) != (flags.FLAGS.workdir is None):
        raise ValueError("expected --budget with --workdir, got one without the other")
    if flags.FLAGS.budget is None:
        for name in ("data_dir", "jobs", "dry_run"):
            if flags.FLAGS[name].present:
                raise ValueError(f"expected --budget with --{name}, got none")
        folder = existing(flags.FLAGS.tables)
        names = [part.name for part in PARTS]
        if not any((folder / name).is_dir() for name in names):
            raise ValueError(
                f"expected {', '.join(names)} in --tables, got none of them in {folder}"
            )
        return folder
    cli.refuse("--budget", "tables")
    workdir = pathlib.Path(os.path.abspath(flags.FLAGS.workdir), flags.FLAGS.budget)
    budget = BUDGETS[flags.FLAGS.budget]
    asked = cells(budget, flags.FLAGS.data_dir)
    if flags.FLAGS.dry_run:
        for line in study_runs.describe(asked, workdir, flags.FLAGS.jobs):
            print(line)
        sys.exit(0)
    if budget.is_one:  # Most of it would be compilation, and most of that LLVM's.
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    for failure in study_runs.run(asked, workdir, flags.FLAGS.jobs):
        print(f"warning: {failure}", file=sys.stderr)
    return study_runs.tables(workdir)


def main() -> None:
    """Prints all claims with their verdicts, and writes the page."""
    page_at = pathlib.Path(flags.FLAGS.report or "")
    if flags.FLAGS.report and page_at.exists():
        regular.check(page_at)
    folder = _run()
    decided = {
        "The study's claims": [decide(claim, folder) for claim in STUDY],
        "Claims of our own": [decide(claim, folder) for claim in OURS],
    }
    every = itertools.chain(*decided.values())
    lines = [[of.claim.statement, of.word, of.says] for of in every]
    show([Table(["claim", "verdict", "of what"], lines)])
    if flags.FLAGS.report:
        text = page(decided, folder).encode()
        page_at.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(page_at, lambda file: file.write(text))
        print(f"page: {page_at}")


def _define_flags() -> None:
    """Of the binary alone: whoever imports the claims has flags of their own."""
    flags.DEFINE_string("tables", str(HERE), "Folder of the folders of tables.")
    flags.DEFINE_string("report", None, "Page to write.")
    flags.DEFINE_enum("budget", None, list(BUDGETS), "What to run before.")
    flags.DEFINE_string("workdir", None, "Folder of what is run.")
    flags.DEFINE_string(
        "data_dir", None, "The study's published release, for the samples of --budget."
    )
    flags.DEFINE_integer(
        "jobs",
        1,
        "How many commands of --budget run at a time, each on its share of the cores.",
        lower_bound=1,
    )
    flags.DEFINE_bool("dry_run", False, "Print what --budget would run.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
