"""Configurations of ``lit-pref fit``, read as that command reads them, many in one process, and none of them run."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ..cli import SETUP, PrefCLI, quiet
from ..errors import ConfigError, PrefError
from ..parser import PrefArgumentParser, readable, refused_by_constructor

#: A configuration with every key.
Config = dict[str, Any]


class _Reader(PrefArgumentParser):
    """Raises where the command would end."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(readable(message, getattr(ex, "subcommand_parser", None) or self))


class FitConfigs(PrefCLI):
    """Reads configurations; its parser takes a moment to build and is built once."""

    def __init__(self) -> None:
        quiet()
        super().__init__(**{**SETUP, "parser_class": _Reader}, args=[])

    def read(self, words: Sequence[str]) -> Config:
        """All keys and values that ``lit-pref fit`` would have of these words.

        Raises:
            ConfigError: what the command would refuse.
        """
        config = self.parser.parse_args(["fit", *words])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the way that a run writes its config.yaml is to be renamed one day
            text = self._parser("fit").dump(config.fit, skip_none=False)
        found: Config = yaml.safe_load(text)
        return found

    def built(self, config: Config) -> tuple[Any, Any]:
        """The module and the data of a configuration, which hold no weights and no pairs yet.

        Raises:
            PrefError: a constructor refused what it was given.
        """
        parser = self._parser("fit")
        try:
            made = parser.instantiate_classes(parser.parse_object(deepcopy(config)))  # which it changes
        except (ValueError, MisconfigurationException) as error:
            raise error if isinstance(error, PrefError) else ConfigError(refused_by_constructor(str(error))) from error
        return made.model, made.data

    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = Namespace(subcommand="fit", fit=Namespace())

    def _set_seed(self) -> None:
        """Nothing: nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing, until ``built`` is called."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""
