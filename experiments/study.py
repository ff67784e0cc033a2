r"""The whole study on one page: claims, rules, verdicts, tables, figures, commands.

    python -m experiments.study
    python -m experiments.study --report report.html
    python -m experiments.study --budget laptop --workdir runs/study

Decides every claim on the tables that are kept beside the code, and trains nothing:
prints a table of all claims, and writes a page that needs nothing but itself. Half a
minute. What has no table yet is shown as such. `--tables` may be another folder with
noisy_or/, dynamics/ and recurring/ in it.

With --budget it runs what has no table in --workdir yet, main claims first, and decides
on the tables there: `smoke` touches all claims and decides none, minutes; `laptop` has
a fifth of the epochs and at most eight seeds; `paper` is the rules. --dry_run prints
the commands. It resumes after a signal or a kill.
"""

import dataclasses
import io
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jinja2
import matplotlib
from absl import flags
from matplotlib.figure import Figure

from experiments import (
    cli,
    dynamics_claims,
    noisy_or_claims,
    recurring_claims,
    study_runs,
)
from experiments.cells import BUDGETS, cells
from experiments.cli.claims import HERE, Claims, Tables
from experiments.cli.verdicts import Block, Table, Verdict, show
from lvm_jax.files import atomic

_NOISY_OR, _DYNAMICS, _RECURRING = (
    module.CLAIMS for module in (noisy_or_claims, dynamics_claims, recurring_claims)
)
_RUNS = "runs on one sample"
_SAMPLES = "truths and samples, several runs on each"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim and what decides it.

    Attributes:
      name: short, of letters; its place on the page.
      statement: the claim.
      rule: what decides it, in short; all of it stands in the rule's own file.
      part: of the study, which has the tables and the rule.
      sections: titles, by their first characters.
      over: what its intervals are of.
      verdicts: those that count, by their first characters; all if there are none.
      figure: name, or "".
      command: what makes its results, for one data set of several.
    """

    name: str
    statement: str
    rule: str
    part: Claims
    sections: tuple[str, ...]
    over: str = _RUNS
    verdicts: tuple[str, ...] = ()
    figure: str = ""
    command: str = ""


_MAIN = "python -m experiments.noisy_or --workdir runs/CON8 --dataset CON8"
_COURSE = "python -m experiments.dynamics --workdir runs/IMG --dataset IMG"
STUDY = (
    Claim(
        "larger",
        "Larger models recover more of the true latent variables.",
        "Mean truths, and the share of runs with all of them, at 16 and at 32 latents "
        "are more than at 8; p below 0.05 in a family of all data sets.",
        _NOISY_OR,
        ("1.",),
        figure="noisy_or_five",
        command=f"{_MAIN} --data_dir RELEASE --num_seeds 32 --epochs 1000",
    ),
    Claim(
        "harm",
        "Extreme overparameterization harms little.",
        "64 and 128 latents lose less than one truth against the best level.",
        _NOISY_OR,
        ("2.",),
        command=f"{_MAIN} --data_dir RELEASE --levels 64,128 --epochs 1000",
    ),
    Claim(
        "likelihood",
        "Held-out log-likelihood follows the truths.",
        "Exact log P(x) of 16 latents less that of 8 has the direction of the truths; "
        "beyond 20 latents a lower bound can say that larger is better, not worse.",
        _NOISY_OR,
        ("3.",),
        command=f"{_MAIN} --data_dir RELEASE --num_seeds 32 --epochs 1000",
    ),
    Claim(
        "surplus",
        "The surplus is discarded or duplicate, and a filter gives back the truth.",
        "Of runs with all truths, the filter leaves these and nothing else in more "
        "than 80%.",
        _NOISY_OR,
        ("4.",),
        command=f"{_MAIN} --data_dir RELEASE --num_seeds 32 --epochs 1000",
    ),
    Claim(
        "batches",
        "The effect is there with batches of 1000.",
        "As for larger models.",
        _NOISY_OR,
        ("5.",),
        command=f"{_MAIN} --data_dir RELEASE --batch_size 1000 --num_seeds 32 "
        "--epochs 1000",
    ),
    Claim(
        "learners",
        "The effect does not depend on the algorithm: mean field, EM.",
        "As for larger models, for each algorithm.",
        _NOISY_OR,
        ("6.",),
        command=f"{_MAIN} --data_dir RELEASE --learner mean_field --num_seeds 32",
    ),
    Claim(
        "misspecified",
        "The effect is there on data that violate the model.",
        "As for larger models.",
        _NOISY_OR,
        ("7.",),
        command="python -m experiments.noisy_or --workdir runs/IMG-FLIP "
        "--dataset IMG-FLIP --levels 8,9,10,16 --num_seeds 32 --epochs 1000",
    ),
    Claim(
        "undecided",
        "Early on, latents are undecided.",
        "After 1/9, 2/9 and 3/9 of the first epoch more than half of the latents that "
        "are not empty lie near no truth, within 0.75 and within 0.5.",
        _DYNAMICS,
        ("1, 2.",),
        verdicts=("undecided",),
        figure="dynamics_states_75",
        command=f"{_COURSE} --trace --levels 8,16,32,64 --num_seeds 64 --epochs 200",
    ),
    Claim(
        "contending",
        "All along, latents contend for the same truth.",
        "After 1, 10, 30, 100 and 200 epochs more than half of the runs have latents "
        "that contend.",
        _DYNAMICS,
        ("1, 2.",),
        verdicts=("contending",),
        command=f"{_COURSE} --trace --levels 8,16,32,64 --num_seeds 64 --epochs 200",
    ),
    Claim(
        "start",
        "It is no warm start: the nearest of many starts do not do it.",
        "Eight latents, started as those of 64 that lie nearest to the truths, recover "
        "less than 16 latents.",
        _DYNAMICS,
        ("3b.",),
        command=f"{_COURSE} --learner nearest --levels 8 --num_seeds 64 --epochs 200",
    ),
    Claim(
        "near",
        "It is no warm start: no latent is near its truth at the start.",
        "The rank of the latent that recovers a truth, among all by distance to it at "
        "the start, is not below chance; of practical size where it is below 0.4.",
        _DYNAMICS,
        ("3a.",),
        command=f"{_COURSE} --trace --levels 8,16,32,64 --num_seeds 64 --epochs 200",
    ),
)
OURS = (
    Claim(
        "rates",
        "The effect is not one of tuning.",
        "As for larger models, each level at its own best rate and all at one.",
        _NOISY_OR,
        ("8.",),
        command=f"{_MAIN} --data_dir RELEASE --rate 0.01,0.04,0.1 --epochs 300",
    ),
    Claim(
        "truths",
        "The effect is there for truths in general.",
        "As for larger models, over 16 truths of each kind.",
        _NOISY_OR,
        ("9.",),
        over=_SAMPLES,
        command=f"{_MAIN} --data_seed 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 "
        "--num_seeds 4 --epochs 300",
    ),
    Claim(
        "when",
        "When surplus latents matter, and whether renewal does as well.",
        "Pruned to the filter's survivors after e epochs, grown by as many, or renewed "
        "every e epochs: alike within half a truth, more or less than 8 and 16.",
        _DYNAMICS,
        ("4.",),
        figure="dynamics_times",
        command=f"{_COURSE} --learner renewed --at 1,3,10,30,100 --levels 8 "
        "--num_seeds 64 --epochs 200",
    ),
    Claim(
        "settled",
        "What is settled when, and who is left of a contention.",
        "Described, not claimed.",
        _DYNAMICS,
        ("5.",),
        figure="dynamics_settled",
        command=f"{_COURSE} --trace --levels 8,16,32,64 --num_seeds 64 --epochs 200",
    ),
    Claim(
        "noise",
        "The noise of the gradient is what helps.",
        "Estimates of lower variance recover less at more cells than they recover "
        "more, and added noise does not.",
        _DYNAMICS,
        ("6.",),
        command="python -m experiments.noise --workdir runs/noise/IMG_rloo4 "
        "--dataset IMG --estimator rloo4 --levels 8,16,32 --num_seeds 32 --epochs 100",
    ),
    Claim(
        "recurring",
        "What recurs between runs is true, and a rule finds the level.",
        "Nine tenths of the latents that recur at the recommended level are true; no "
        "other level has more truths that recur; nothing recurs without structure.",
        _RECURRING,
        ("1, 2.", "3.", "4.", "5.", "Data"),
        over="truths and samples",
        figure="recurring",
        command="python -m experiments.recurring --workdir runs/recurring/CON8_1000 "
        "--dataset CON8 --num_samples 1000 --data_seed 0,1,2,3,4,5,6,7",
    ),
    Claim(
        "calibration",
        "Calibration says how much of what recurs is true.",
        "The share that is true in redrawn data is that of the data within 0.1.",
        _RECURRING,
        ("6.",),
        over="truths and samples",
        command="python -m experiments.noisy_or --workdir runs/mine --samples mine.csv "
        "--levels 8,16,32 --num_seeds 8 --calibrate 4",
    ),
)

_MARKS = {"holds": "●", "fails": "▲", "undecided": "◆", "measured": "■", "none": "○"}
_WORDS = {"none": "no results yet"}
_MOST_NAMES = 3  # that a summary lists


class Decided(NamedTuple):
    """A claim and what the tables say.

    Attributes:
      claim: which.
      blocks: tables, text and the verdicts that count, of its sections.
      verdicts: these alone.
      kind: holds, fails, undecided, measured, or none if there are no results.
    """

    claim: Claim
    blocks: list[Block]
    verdicts: list[Verdict]
    kind: str

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
        return "; ".join(map(_in_short, self.verdicts))

    @property
    def lacking(self) -> list[str]:
        """What has no table yet."""
        lines = [block for block in self.blocks if isinstance(block, str)]
        return [line for line in lines if line.startswith("Not there: ")]


def _in_short(verdict: Verdict) -> str:
    """A verdict by what it says, with what it says that of, or of how many."""
    groups = {}
    for of, says in verdict.says.items():
        groups.setdefault(says, []).append(of)
    num = len(verdict.says)
    texts = []
    for says, of in groups.items():
        is_short = len(groups) > 1 and len(of) <= _MOST_NAMES
        where = ", ".join(of) if is_short else f"{len(of)} of {num}"
        texts.append(says if num == 1 and "" in of else f"{says} ({where})")
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
    """What the tables of a folder say of a claim."""
    tables = Tables(folder / claim.part.name)
    blocks = [
        block
        for title, section in claim.part.sections.items()
        if title.startswith(claim.sections)
        for block in _blocks(section, tables)
        if not isinstance(block, Verdict)
        or block.claim.startswith(claim.verdicts or "")
    ]
    verdicts = [block for block in blocks if isinstance(block, Verdict)]
    has_table = any(isinstance(block, Table) for block in blocks)
    found = kind(verdicts)
    return Decided(
        claim,
        blocks,
        verdicts,
        "measured" if found == "none" and has_table else found,
    )


def _blocks(section: Callable[..., Iterator[Block]], tables: Tables) -> list[Block]:
    """Those of a section, or what its tables, of another version, lack."""
    try:
        return list(section(tables))
    except KeyError as error:
        return [f"Not there: a column {error} of tables in {tables.folder.name}/."]


def _figures(part: Claims, tables: Tables) -> dict[str, Figure]:
    """By name; none of tables that lack a column."""
    try:
        return dict(part.draw(tables))
    except KeyError:
        return {}


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


def page(decided: Mapping[str, list[Decided]], folder: pathlib.Path) -> str:
    """The page.

    Args:
      decided: claims under their headings.
      folder: of the folders of tables.
    """
    drawn = {}
    for part in (_NOISY_OR, _DYNAMICS, _RECURRING):
        drawn |= _figures(part, Tables(folder / part.name))
    figures = {
        of.claim.name: inline(drawn[of.claim.figure], of.claim.name)
        for of in (of for some in decided.values() for of in some)
        if of.claim.figure in drawn
    }
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
    return template.render(parts=decided, figures=figures, marks=_MARKS, words=_WORDS)


def _run() -> pathlib.Path:
    """Runs what is missing; the folder of all tables."""
    if (flags.FLAGS.budget is None) != (flags.FLAGS.workdir is None):
        raise ValueError("expected --budget with --workdir, got one without the other")
    if flags.FLAGS.budget is None:
        return pathlib.Path(flags.FLAGS.tables)
    workdir = pathlib.Path(os.path.abspath(flags.FLAGS.workdir), flags.FLAGS.budget)
    asked = cells(BUDGETS[flags.FLAGS.budget], flags.FLAGS.data_dir)
    if flags.FLAGS.dry_run:
        for line in study_runs.describe(asked, workdir):
            print(line)
        sys.exit(0)
    for failure in study_runs.run(asked, workdir):
        print(f"warning: {failure}", file=sys.stderr)
    return study_runs.tables(workdir)


def main() -> None:
    """Prints all claims with their verdicts, and writes the page."""
    folder = _run()
    decided = {
        "The study's claims": [decide(claim, folder) for claim in STUDY],
        "Claims of our own": [decide(claim, folder) for claim in OURS],
    }
    every = itertools.chain(*decided.values())
    lines = [[of.claim.statement, of.word, of.says] for of in every]
    show([Table(["claim", "verdict", "of what"], lines)])
    if flags.FLAGS.report:
        path = pathlib.Path(flags.FLAGS.report)
        text = page(decided, folder).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(path, lambda file: file.write(text))
        print(f"page: {path}")


def _define_flags() -> None:
    """Of the binary alone: whoever imports the claims has flags of their own."""
    flags.DEFINE_string("tables", str(HERE), "Folder of the folders of tables.")
    flags.DEFINE_string("report", None, "Page to write.")
    flags.DEFINE_enum("budget", None, list(BUDGETS), "What to run before.")
    flags.DEFINE_string("workdir", None, "Folder of what is run.")
    flags.DEFINE_string(
        "data_dir", None, "The study's published release, for the samples of --budget."
    )
    flags.DEFINE_bool("dry_run", False, "Print what --budget would run.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
