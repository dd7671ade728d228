"""The command ``lit-pref sample-preferences``: keys and YAML files in, one run. Knows nothing about what it does."""

import sys
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser
from transformers.utils.logging import disable_progress_bar

from ..command_end import plain_end
from .sampling_run import SamplePreferences

SUMMARY = (
    "Sample responses, judge them, and write preference pairs: refusals over compliances, ties by a tie-break. "
    "One process on one device."
)


def parser() -> ArgumentParser:
    """Every key of the command."""
    made = ArgumentParser(prog="lit-pref sample-preferences", description=SUMMARY)
    made.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are merged in order.")
    made.add_class_arguments(SamplePreferences)
    made.usage = "lit-pref sample-preferences --config FILE [--KEY VALUE ...]"
    return made


def planned(values: dict[str, Any]) -> SamplePreferences:
    """What a dictionary of keys asks for, as if it had been a YAML file."""
    made = parser()
    made.exit_on_error = False
    return _built(made, made.parse_object(values))


def run(args: list[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    if not sys.stderr.isatty():
        disable_progress_bar()  # of loading weights
    made = parser()
    options = made.parse_args(args)
    with plain_end():
        _built(made, options).run()


def _built(made: ArgumentParser, options: Any) -> SamplePreferences:
    instantiated = made.instantiate_classes(options)
    values = {key: value for key, value in vars(instantiated).items() if key != "config"}
    return SamplePreferences(**values)
