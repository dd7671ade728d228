"""The words behind ``lit-pref compare``. Knows the command's own keys; all others are those of ``lit-pref fit``."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..errors import ConfigError

USAGE = (
    "lit-pref compare --config FILE ... --objectives dpo,ipo,... [--seeds 0,1,2] [--grid KEY=A,B ...]\n"
    "                        [--out FOLDER] [--jobs N] [--baseline ARM] [--dry-run] [--print-commands]\n"
    "                        [--KEY VALUE ...]"
)
SUMMARY = (
    "Train one policy by several objectives on the same pairs, each with several seeds, and report how they differ. "
    "The same command goes on where it was interrupted."
)
#: Keys of ``lit-pref fit`` that the command decides by itself -> what decides them.
DECIDED = {
    "run": "runs lie below --out",
    "seed_everything": "name the seeds by --seeds",
    "ckpt_path": "every arm starts at the policy",
    "model.objective": "name objectives by --objectives, their values by --grid, e.g. --grid model.objective.beta=0.2",
}


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        configs: YAML files that all arms share.
        objectives: names or files.
        seeds: of the runs.
        grid: KEY=A,B as it was typed.
        out: folder of runs and report.
        jobs: processes at once.
        baseline: arm that others are compared with; by default the first.
        dry_run: end after the plan.
        print_commands: print the command of every run that is missing, and run none.
        print_config: print the configuration of every arm, and run none.
        overrides: words of ``lit-pref fit``, for every arm.
    """

    configs: list[str]
    objectives: list[str]
    seeds: list[int]
    grid: list[str]
    out: str
    jobs: int
    baseline: str | None
    dry_run: bool
    print_commands: bool
    print_config: bool
    overrides: list[str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}\n  `lit-pref compare --help` lists every key.")


def parser() -> argparse.ArgumentParser:
    """The command's own keys."""
    made = _Parser(prog="lit-pref compare", usage=USAGE, description=SUMMARY, allow_abbrev=False)
    made.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        dest="configs",
        metavar="FILE",
        help='YAML file of lit-pref fit; several are merged in order; "{seed}" in it stands for the seed',
    )
    made.add_argument(
        "--objectives",
        default="",
        metavar="NAMES",
        help="files of configs/objectives by name, or paths of YAML files, with commas between them",
    )
    made.add_argument("--seeds", default="0", help="numbers with commas between them (default: 0)")
    made.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="values of a key of lit-pref fit, each an arm of its own; several keys: every combination",
    )
    made.add_argument("--out", default="runs/compare", help="folder of runs and report (default: runs/compare)")
    made.add_argument("--jobs", type=int, default=1, help="processes at once (default: 1)")
    made.add_argument("--baseline", metavar="ARM", help="what others are compared with (default: the first arm)")
    made.add_argument("--dry-run", "--dry_run", action="store_true", help="print the plan, and run nothing")
    made.add_argument(
        "--print-commands",
        "--print_commands",
        action="store_true",
        help="print a shell line for every run that is missing, for a launcher of your own",
    )
    made.add_argument("--print_config", "--print-config", action="store_true", help="print every arm's configuration")
    return made  # fmt: skip


def read(args: Sequence[str]) -> Options:
    """The options.

    Raises:
        ConfigError: words that mean nothing.
    """
    made = parser()
    known, rest = made.parse_known_args(list(args))
    own = [option.lstrip("-") for action in made._actions for option in action.option_strings]
    check_overrides(rest, own)
    if not known.configs:
        raise ConfigError("--config is missing: which model and data?\n  Fix: e.g. --config configs/quickstart.yaml")
    if known.jobs < 1:
        raise ConfigError(f"--jobs is {known.jobs}, but must be at least 1")
    values = {**vars(known), "objectives": listed("--objectives", known.objectives), "seeds": _seeds(known.seeds)}
    return Options(**values, overrides=rest)


def listed(name: str, text: str) -> list[str]:
    """Words with commas between them; ConfigError where there is none, or one twice."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    twice = sorted({word for word in words if words.count(word) > 1})
    if not words or twice:
        raise ConfigError(f"{name} {text!r}: {f'{twice[0]!r} stands there twice' if twice else 'this names nothing'}")
    return words


def _seeds(text: str) -> list[int]:
    words = listed("--seeds", text)
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise ConfigError(f"--seeds holds {wrong[0]!r}, which is no number from 0 on.\n  Fix: e.g. --seeds 0,1,2")
    seeds = [int(word) for word in words]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text!r} holds a seed twice")
    return seeds


def check_overrides(rest: Sequence[str], own: Sequence[str]) -> None:
    """Refuse what is no key of ``lit-pref fit``, and keys that the command decides by itself."""
    if rest and not rest[0].startswith("--"):
        raise ConfigError(f"{rest[0]!r} stands alone.\n  Fix: lists have commas and no blanks, e.g. --seeds 0,1,2")
    for key in (word[2:].split("=")[0].rstrip("+") for word in rest if word.startswith("--")):
        for decided, why in DECIDED.items():
            if key == decided or key.startswith(f"{decided}."):
                raise ConfigError(f"--{key}: lit-pref compare sets this itself; {why}.")
        if "." not in key and key not in ("model", "data", "trainer"):
            near = difflib.get_close_matches(key, own, n=1)
            raise ConfigError(
                f"lit-pref compare has no key --{key}.{f' Did you mean --{near[0]}?' if near else ''}\n"
                "  `lit-pref compare --help` lists its keys; those of lit-pref fit have a point, e.g. --data.path."
            )
