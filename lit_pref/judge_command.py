"""The command ``lit-pref judge --run RUN``: keys and YAML files in, a report out. Knows nothing of how it is made."""

import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser

from .errors import ConfigError, PrefError
from .judged_run import JudgedRun

SUMMARY = (
    "Judge the responses of a run, or judge them again by other judges, without generating anything. What was judged "
    "before is taken from the cache, so a run of this command that was interrupted goes on."
)


class JudgeParser(ArgumentParser):
    """Says what was wrong in a few lines, with the names that there are."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        from .parser import readable  # which loads a lot

        text = readable(message, self)  # type: ignore[arg-type]  # it asks for names of keys alone
        sys.stderr.write(f"error: {text}\n  `lit-pref judge --help` lists every key.\n")
        self.exit(2)


def parser() -> ArgumentParser:
    """Every key of the command."""
    made = JudgeParser(prog="lit-pref judge", description=SUMMARY)
    made.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are merged in order.")
    made.add_class_arguments(JudgedRun)
    made.usage = "lit-pref judge --run RUN [--judges CLASS ...] [--config FILE ...] [--KEY VALUE ...]"
    return made


def run(args: list[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    made = parser()
    options = made.parse_args(appended(args))
    try:
        if not options.judges:
            options.judges = made.parse_object({"run": options.run, "judges": judges_of(Path(options.run))}).judges
        _built(made, options).write()
    except PrefError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. What is judged is kept; the same command goes on from there.\n")
        sys.exit(130)


def _built(made: ArgumentParser, options: Any) -> JudgedRun:
    try:
        instantiated = made.instantiate_classes(options)
    except ValueError as error:  # a constructor refused what it was given
        raise ConfigError(str(error)) from error
    return JudgedRun(**{key: value for key, value in vars(instantiated).items() if key != "config"})


def appended(args: list[str]) -> list[str]:
    """``--judges A B`` as the parser wants lists of classes: ``--judges+=A --judges+=B``."""
    words: list[str] = []
    listing = False
    for word in args:
        if listing and re.fullmatch(r"[A-Za-z_][\w.]*", word):
            words.append(f"--judges+={word}")
            continue
        listing = word in ("--judges", "--judges+")
        if not listing:
            words.append(re.sub(r"^--judges=(?=[A-Za-z_])", "--judges+=", word))
    return words


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
