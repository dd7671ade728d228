"""The command ``lit-pref``: answers what needs no heavy import, guards the package names, hands over to the CLI."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from lit_pref import __version__

HELP = f"""lit-pref {__version__}: study and fix likelihood displacement in preference optimization

Usage: lit-pref COMMAND [--config FILE ...] [--KEY VALUE ...]

Commands:
  fit        train a policy on preference pairs
  validate   measure a policy on the validation pairs
  test       measure a policy on the pairs of data.test_path
  predict    write the scores of every pair to a file
  score      write how similar the two responses of every pair look to a model
  compare    train by several objectives on the same pairs, and report how they differ
  experiment run an experiment of the paper: many runs, one table and figure
  sample-preferences
             make preference pairs out of a model's own responses
  judge      judge the responses of a run, or judge them again by other judges
  report     put runs side by side: numbers, intervals, figures, one page
  calibrate  measure judges on responses with known labels

Options:
  --version  print the version
  --help     print this; `lit-pref COMMAND --help` lists every key of a command

Try: lit-pref fit --config configs/quickstart.yaml"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits 2 on a wrong config, 4 on bad data, 5 on a lacking environment."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
    elif args[0] == "--version":
        print(f"lit-pref {__version__}")
    elif args[0] == "compare":
        sys.path.append(os.getcwd())  # an objective may be the user's own
        check_siblings()
        from lit_pref.compare.command import run as run_comparison

        run_comparison(args[1:])
    elif args[0] == "experiment":
        from lit_pref.experiments.command import run as run_experiment

        run_experiment(args[1:])
    elif args[0] == "sample-preferences":
        sys.path.append(os.getcwd())  # a judge or a tie-break may be the user's own
        from lit_pref.preferences.command import run as run_sampling

        run_sampling(args[1:])
    elif args[0] == "judge":
        sys.path.append(os.getcwd())  # a judge may be the user's own
        from lit_pref.judge_command import run as run_judges

        run_judges(args[1:])
    elif args[0] == "calibrate":
        sys.path.append(os.getcwd())  # a judge may be the user's own
        from lit_pref.calibrate_command import run as run_calibration

        run_calibration(args[1:])
    elif args[0] == "report":
        from lit_pref.report.command import run as run_report

        run_report(args[1:])
    else:
        sys.path.append(os.getcwd())  # a user's own files are found, ours win
        check_siblings()
        from lit_pref.cli import run

        run(args)


def check_siblings() -> None:
    """Stop where ``objectives`` or ``callbacks`` would be imported from elsewhere than beside this package."""
    home = Path(__file__).resolve().parents[1]
    for name in ("objectives", "callbacks"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != home:
            sys.exit(
                f"`{name}` comes from {found or 'nowhere'}, not from {home}: something shadows it.\n"
                f"  Fix: rename the folder or file {name} in {found or 'the way'}, or run the `lit-pref` script."
            )


if __name__ == "__main__":
    main()
