"""The command ``lit-pref compare``: words in, exit codes out. Knows nothing of how arms are planned or run."""

import signal
import sys
from typing import Any, NoReturn

from ..command_end import plain_end
from .options import read


def run(args: list[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    with plain_end("Interrupted; the processes are ended. The same command goes on from their checkpoints."):
        options = read(args)
        from .comparison import Comparison  # which loads a lot
        from .planning import Planner

        planner = Planner(options)
        arms = planner.arms()
        if options.print_config:
            import yaml

            for arm in arms:  # one by one: what arms share would be written as references
                sys.stdout.write(yaml.safe_dump({arm.folder: arm.config}, sort_keys=False))
            sys.exit(0)
        comparison = Comparison(options, planner, arms)
        if options.print_commands:
            comparison.show_commands()
            return
        comparison.show_plan()
        if not options.dry_run:
            signal.signal(signal.SIGTERM, _interrupted)  # as Ctrl-C: children are ended, and what is done is kept
            comparison.run()


def _interrupted(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
