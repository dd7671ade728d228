"""What a judge is and what it says about a response. Knows nothing of phrases, models or servers."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import torch

#: `unparseable`: the judge answered, but gave no verdict. `error`: the judge could not be asked. Neither is ever
#: counted as a refusal or a compliance.
Label = Literal["refusal", "compliance", "partial", "unparseable", "error"]
LABELS: tuple[Label, ...] = get_args(Label)
#: Facts that only say how a raw output is read; with other ones an output kept on disk can be read again.
READING = ("parser", "labels", "allow_other_model")


class Item(NamedTuple):
    """One response and the request it answers."""

    prompt: str
    response: str


class Verdict(NamedTuple):
    """What a judge says about one item.

    Attributes:
        label: the verdict.
        score: the judge's probability of its label; None where it has none.
        raw: the judge's output as it came, to be read again when the parser changes.
        reason: a sentence on how the label came about.
        judge: fingerprint of the judge.
        cached: whether it was found on disk.
    """

    label: Label
    score: float | None
    raw: str
    reason: str
    judge: str
    cached: bool = False


class Judge(ABC):
    """Labels responses. It is no `nn.Module`, so that it never ends in a checkpoint.

    Subclasses give `name`, `facts` and `judge`.
    """

    #: Short and safe in a metric's tag; of a judge with a template it holds the first 8 digits of its hash,
    #: because the wording alone moves rates by many points.
    name: str

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Everything that a verdict depends on besides the item: model, template, decoding, parser."""

    @abstractmethod
    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """One verdict for each item, in order. A failure of one item is a verdict `error`, never an exception."""

    def prepare(self, device: torch.device) -> None:  # noqa: B027, a judge without a model has nothing to do
        """Get ready for one evaluation: load a model onto the device, start a clock. Optional to call."""

    def release(self) -> None:  # noqa: B027
        """Give back what `prepare` took."""

    def reread(self, raw: str) -> Verdict | None:
        """The verdict that an output kept from an older parser has now; None where it has to be asked again."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Changes when anything does that verdicts depend on; not when a model's folder moves."""
        facts = self.facts()
        return f"{facts.get('judge', self.name)}@{digest(facts)[:16]}"

    @cached_property
    def asking(self) -> str:
        """As the fingerprint, but only of what the judge is asked, not of how its output is read."""
        return digest({key: value for key, value in self.facts().items() if key not in READING})[:16]

    def verdict(self, label: Label, raw: str = "", reason: str = "", score: float | None = None) -> Verdict:
        """A verdict of this judge."""
        return Verdict(label, score, raw, reason, self.fingerprint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def slug(text: str) -> str:
    """The last part of a path or name, safe in a tag of a logger."""
    last = re.split(r"[/:]", text.rstrip("/"))[-1]
    return re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_").lower()[:40] or "model"
