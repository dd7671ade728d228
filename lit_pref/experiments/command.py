"""The command ``lit-pref experiment NAME``. Knows the experiments by name, nothing about what they do."""

import sys

from jsonargparse import ActionConfigFile, ArgumentParser

from ..command_end import plain_end
from .composition import Composition
from .percentiles import Percentiles
from .sorrybench import Sorrybench

EXPERIMENTS = {"percentiles": Percentiles, "sorrybench": Sorrybench, "composition": Composition}


def run(args: list[str]) -> None:
    """Run one experiment; a failure that the user can mend ends in a few lines and its exit code."""
    if not args or args[0] not in EXPERIMENTS:
        wrong = f"there is no experiment {args[0]!r}" if args and not args[0].startswith("-") else "which experiment?"
        sys.stderr.write(f"error: {wrong}\n  Choices: {', '.join(EXPERIMENTS)}\n")
        sys.exit(2)
    experiment = EXPERIMENTS[args[0]]
    parser = ArgumentParser(
        prog=f"lit-pref experiment {args[0]}", description=(experiment.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are merged in order.")
    parser.add_class_arguments(experiment)
    parser.usage = f"lit-pref experiment {args[0]} --config FILE [--KEY VALUE ...]"
    options = parser.parse_args(args[1:])
    with plain_end():
        parser.instantiate_classes(options)
        del options["config"]
        experiment(**options.as_dict()).run()
