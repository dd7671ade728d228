"""The parser of commands that take judges: classes by bare names, lists of them, readable errors. Knows no command."""

import re
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser
from jsonargparse._util import resolved_import_paths

from . import judges
from .errors import ConfigError
from .judges.base import Judge

# Its path is looked for in lit_pref.judges otherwise, where asking for it imports all judges, and torch.
resolved_import_paths.add(Judge, f"{Judge.__module__}.{Judge.__name__}")


class _Unknown(Exception):  # noqa: N818, it is no error yet
    """Something could not be read while not all judges were imported."""


class JudgeParser(ArgumentParser):
    """Says what was wrong in a few lines, with the names that there are. Subclasses name their command."""

    #: Behind ``lit-pref``.
    command: ClassVar[str]

    @classmethod
    def of(cls, options: type, summary: str, usage: str) -> "JudgeParser":
        """A parser whose keys are the arguments of a class."""
        made = cls(prog=f"lit-pref {cls.command}", description=summary)
        made.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are merged in order.")
        made.add_class_arguments(options)
        made.usage = f"lit-pref {cls.command} {usage}"
        return made

    def read(self, args: list[str]) -> Any:
        """The options; what cannot be read is read again when all judges are imported, which takes seconds."""
        words = appended(args)
        if any(".help" in word for word in words):
            import_all()  # help on a class that is named
        return _twice(lambda: self.parse_args(words))

    def listed(self, found: list[Any]) -> list[Any]:
        """Judges as a YAML file has them, as options."""
        required = {action.dest: "" for action in self._actions if action.required}
        return list(_twice(lambda: self.parse_object({**required, "judges": found})).judges)

    def made(self, options: Any) -> dict[str, Any]:
        """Arguments of the class, with judges in the place of their options.

        Raises:
            ConfigError: a constructor refused what it was given.
        """
        try:
            instantiated = self.instantiate_classes(options)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return {key: value for key, value in vars(instantiated).items() if key != "config"}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not all_imported():
            raise _Unknown(message)
        from .parser import readable  # which loads a lot

        text = readable(message, self)  # type: ignore[arg-type]  # it asks for names of keys alone
        sys.stderr.write(f"error: {text}\n  `lit-pref {self.command} --help` lists every key.\n")
        self.exit(2)


def _twice(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except _Unknown:
        import_all()
        return parse()


def import_all() -> None:
    """Import the judges that load torch too, so that they are found by their bare names."""
    _ = judges.Judge


def all_imported() -> bool:
    """Whether every judge of ours is imported."""
    return all(f"{judges.__name__}.{home}" in sys.modules for home in judges.HEAVY.values())


def appended(args: list[str]) -> list[str]:
    """``--judges A B`` as the parser wants lists: ``--judges+=A --judges+=B``, classes of ours by their full names."""
    words: list[str] = []
    listing = False
    for word in args:
        if listing and re.fullmatch(r"[A-Za-z_][\w.]*", word):
            words.append(f"--judges+={_full(word)}")
            continue
        listing = word in ("--judges", "--judges+")
        if not listing:
            words.append(re.sub(r"^--judges\+?=([A-Za-z_][\w.]*)$", lambda m: f"--judges+={_full(m[1])}", word))
    return words


def _full(name: str) -> str:
    """The path of a judge of ours: by its bare name it is only found where it has been imported."""
    return f"{judges.__name__}.{name}" if name.endswith("Judge") and name in judges.__all__ else name
