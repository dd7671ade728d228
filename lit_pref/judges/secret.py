"""A key that is in the environment and nowhere else. Knows nothing of what it opens."""

import json
import os
import urllib.parse
from dataclasses import dataclass

from ..errors import ConfigError

REDACTED = "[key]"
#: How keys of well-known services begin.
KEY_PREFIXES = (
    "hf_", "gsk_", "sk_", "sk-", "pk_", "rk_", "csk-", "xai-", "pplx-", "nvapi-", "fw_", "r8_", "tgp_v1_", "eyJ",
    "AIza", "AKIA", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-",
)  # fmt: skip
#: No word in the name of a variable is as long, and of several kinds of characters.
LONG_WORD = 16


@dataclass(frozen=True)
class EnvironmentKey:
    """The name of an environment variable; its value is read when it is used, and never kept.

    Attributes:
        variable: the name; None: no key is sent.
    """

    variable: str | None

    def __post_init__(self) -> None:
        if self.variable is not None and (not self.variable.isidentifier() or _looks_like_a_key(self.variable)):
            # Not quoted: somebody may have put the key itself here.
            raise ConfigError(
                "EndpointJudge: key_env is no name of an environment variable, or one that is not set and looks like "
                "a key\n"
                "  Fix: put the key into a variable and give the variable's name, such as OPENAI_API_KEY."
            )

    def header(self) -> dict[str, str]:
        """The header that carries the key; nothing where there is none, or where it cannot be sent."""
        value = self._value()
        sendable = value.isascii() and value.isprintable()
        return {"Authorization": f"Bearer {value}"} if value and sendable else {}

    def redact(self, text: str) -> str:
        """A text without the key, in whatever spelling a server may repeat it."""
        value = self._value()
        if not value:
            return text
        for spelling in sorted({value, json.dumps(value)[1:-1], urllib.parse.quote(value, safe="")}, key=len)[::-1]:
            text = text.replace(spelling, REDACTED)
        return text

    def advice(self) -> str:
        """What to do where the server wants a key, or another one."""
        if self.variable is None:
            return "set key_env to the name of an environment variable that holds a key"
        value = self._value()
        if not value:
            return f"the environment variable {self.variable} is not set; put a key into it"
        if not (value.isascii() and value.isprintable()):
            return f"the environment variable {self.variable} holds characters that no key has; put a key into it"
        return f"the server does not take the key in the environment variable {self.variable}"

    def _value(self) -> str:
        return os.environ.get(self.variable, "").strip() if self.variable else ""


def _looks_like_a_key(name: str) -> bool:
    """Whether a name may be a pasted key; one that the environment knows is a name, whatever it looks like."""
    return name not in os.environ and (name.startswith(KEY_PREFIXES) or any(map(_random_looking, name.split("_"))))


def _random_looking(word: str) -> bool:
    kinds = (any(map(str.islower, word)), any(map(str.isupper, word)), any(map(str.isdigit, word)))
    return len(word) >= LONG_WORD and sum(kinds) >= 2
