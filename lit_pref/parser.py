"""The argument parser: config files that compose, and errors in a few lines that name the choices.

Three habits of the stock parser are cured here, each of which would silently train something else than was asked for:
arguments of one class that survive a change of class, callbacks that an overlay replaces, and (in ``cli``) settings
of a checkpoint that override the command line.
"""

import difflib
import re
import sys
import textwrap
from typing import Any, NoReturn, Union, get_args

import jsonargparse._typehints as typehints
from jsonargparse import ActionConfigFile, Namespace
from jsonargparse._typehints import subclass_spec_as_namespace
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from objectives import Objective

from .judges import Judge
from .pruning import Rule
from .references import Reference

CALLBACKS = "trainer.callbacks"
#: Key of a class choice -> the class whose subclasses may be named there.
CHOICES: dict[str, type[Any]] = {
    "objective": Objective,
    "reference": Reference,
    "callbacks": Callback,
    "rule": Rule,
    "judge": Judge,
    "judges": Judge,
}


def forget_arguments_of_other_class(_parser: Any, previous: Any, value: Any) -> None:
    """When a class changes, none of the old class's arguments stays.

    jsonargparse keeps those that the new class accepts too: SimPO after DPO(beta=0.1) would train with beta 0.1
    instead of SimPO's own 2.0, without a word.
    """
    if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
        arguments = subclass_spec_as_namespace(previous).init_args
        for key in list(arguments.keys()):
            arguments.pop(key)


typehints.discard_init_args_on_class_path_change = forget_arguments_of_other_class


class ConfigFile(ActionConfigFile):
    """``--config FILE``: later files add to the callbacks of earlier ones; an empty list clears them."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        before = cfg.get(CALLBACKS)
        super().__call__(parser, cfg, values, option_string)
        after = cfg.get(CALLBACKS)
        if before and after and after is not before:
            cfg[CALLBACKS] = merge_callbacks(_listed(before), _listed(after))


def merge_callbacks(before: list[Any], after: list[Any]) -> list[Any]:
    """The later list, in the places of earlier callbacks of its classes, and what was there of other classes.

    Several callbacks of one class in one list all stay.
    """
    if [_plain(callback) for callback in before] == [_plain(callback) for callback in after]:
        return after
    merged: list[Any] = []
    placed: set[str] = set()
    for callback in before:
        name = _class_path(callback)
        same = [later for later in after if _class_path(later) == name]
        if not same:
            merged.append(callback)
        elif name not in placed:
            merged += same
            placed.add(name)
    return merged + [callback for callback in after if _class_path(callback) not in placed]


class PrefArgumentParser(LightningArgumentParser):
    """Says what was wrong in a few lines, with the names that come nearest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})  # max_epoch is a typo, not max_epochs

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        sys.stderr.write(f"error: {readable(message, parser)}\n  `lit-pref COMMAND --help` lists every key.\n")
        self.exit(2)


def prefer_whole_numbers(parser: LightningArgumentParser) -> None:
    """Of types that allow both, try int before float: one batch is ``limit_val_batches 1``, and 1.0 is all of them.

    ``typing`` keeps the first order in which any library wrote a union, so the Trainer's own order hangs on imports.
    """
    for action in parser._actions:
        types = get_args(getattr(action, "_typehint", None))
        if int in types and float in types and types.index(float) < types.index(int):
            action._typehint = Union[(int, *(one for one in types if one is not int))]  # type: ignore[attr-defined]


def readable(message: str, parser: LightningArgumentParser) -> str:
    """A parser's message without nested dumps, and with the names that could have been meant."""
    if message.startswith("Unexpected config:") and not _content(message.removeprefix("Unexpected config:")):
        return "the config file is empty"
    if match := re.search(r"does not accept option '([^']+)'|Option '([^']+)' is not accepted", message):
        return f"{_short(message)}{_nearest(match[1] or match[2], _keys(parser, message))}"
    if match := re.search(r"unrecognized arguments: --([\w.]+)", message):
        return f"{_short(message)}{_nearest(match[1], _keys(parser, message))}"
    if message.startswith("the following arguments are required") and "model.objective" in message:
        choices = ", ".join(sorted(_subclasses(Objective)))
        return (
            f"{_short(message)}\n  model.objective: a file of configs/objectives, e.g. -c configs/objectives/dpo.yaml, "
            f"or a class, e.g. --model.objective DPO\n  Choices: {choices}"
        )
    if (match := re.search(r'key "([\w.]+)\+?"', message)) and _names_no_class(message):
        base = CHOICES.get(match[1].split(".")[-1])
        if base is not None:
            choices = ", ".join(sorted(_subclasses(base)))
            return f'Parser key "{match[1]}": {_wrong_class(message)}\n  Choices: {choices}'
    return _short(message)


def refused_by_constructor(message: str) -> str:
    """What a constructor said about its arguments, out of the list of all types that a value does not have."""
    if "Errors:\n" not in message:
        return message
    listed = message.partition("Errors:\n")[2].partition("\nGiven value type:")[0]
    items = [textwrap.dedent(item) for item in re.split(r"^  - ", listed, flags=re.MULTILINE) if item.strip()]
    reasons = [item for item in items if not re.match(r"Not a valid subclass|Expected a |Not of type", item)]
    return reasons[0].replace("\n      ", "\n  ").strip() if reasons else message


def _content(text: str) -> str:
    """A YAML text without comments."""
    return "".join(line.split("#")[0] for line in text.splitlines()).strip()


def _short(message: str) -> str:
    """The first line and, where there are nested ones, the innermost reason."""
    lines = [line.strip(" -") for line in message.strip().splitlines() if line.strip(" -")]
    return lines[0] if len(lines) < 2 else f"{lines[0]} {lines[-1]}"


def _keys(parser: LightningArgumentParser, message: str) -> list[str]:
    """Names that are accepted where an option was refused."""
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action.choices, dict):  # the commands, where the error comes from above them
            parsers += list(action.choices.values())
    dests = sorted({action.dest for p in parsers for action in p._actions if not action.dest.endswith(".help")})
    if match := re.search(r"Group '([^']+)'", message):
        prefix = match[1] + "."
        return [dest[len(prefix) :] for dest in dests if dest.startswith(prefix)]
    return dests


def _nearest(wrong: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wrong, names, n=3, cutoff=0.6)
    return f"\n  Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def _names_no_class(message: str) -> bool:
    return bool(re.search(r"Expected a dot import path|Import of|Unable to import|not a subclass|No module", message))


def _wrong_class(message: str) -> str:
    match = re.search(r"Expected a dot import path string: (\S+)|Problem with given class_path '([^']+)'", message)
    return f"there is no class {(match[1] or match[2])!r}" if match else "there is no such class"


def _subclasses(base: type[Any]) -> set[str]:
    found: set[str] = set()
    for subclass in base.__subclasses__():
        found |= _subclasses(subclass)
        if not subclass.__name__.startswith("_"):
            found.add(subclass.__name__)
    return found


def _listed(callbacks: Any) -> list[Any]:
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _plain(callback: Any) -> Any:
    return callback.as_dict() if isinstance(callback, Namespace) else callback


def _class_path(callback: Any) -> str:
    return str(callback["class_path"])
