"""The command ``lit-pref judge --run RUN``: keys and YAML files in, a report out. Knows nothing of how it is made."""

from pathlib import Path
from typing import Any

import yaml

from .command_end import plain_end
from .errors import ConfigError
from .judge_parser import JudgeParser
from .judged_run import JudgedRun

USAGE = "--run RUN [--judges CLASS ...] [--config FILE ...] [--KEY VALUE ...]"
SUMMARY = (
    "Judge the responses of a run, or judge them again by other judges, without generating anything. What was judged "
    "before is taken from the cache, so a run of this command that was interrupted goes on."
)


class Parser(JudgeParser):
    """Keys of ``lit-pref judge``."""

    command = "judge"


def run(args: list[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    made = Parser.of(JudgedRun, SUMMARY, USAGE)
    options = made.read(args)
    with plain_end("Interrupted. What is judged is kept; the same command goes on from there."):
        if not options.judges:
            options.judges = made.listed(judges_of(Path(options.run)))
        JudgedRun(**made.made(options)).write()


def judges_of(folder: Path) -> list[Any]:
    """The judges that the run itself was configured with.

    Raises:
        ConfigError: it had none.
    """
    found: list[Any] = []
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        callbacks = config["trainer"]["callbacks"] or []
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        callbacks = []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(callback, dict) and str(callback.get("class_path", "")).endswith("RefusalRate"):
            found += callback.get("init_args", {}).get("judges") or []
    if not found and folder.is_dir():
        raise ConfigError(
            f"--run {folder}: its config.yaml names no judges.\n"
            "  Fix: name them, e.g. --judges KeywordJudge, or --config judges.yaml with a list `judges`."
        )
    return found
