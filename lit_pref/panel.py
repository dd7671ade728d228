"""Several judges on the same responses, in one process or many. Knows nothing about models that answer, or logs.

Whatever a judge does, it costs its own verdicts and nothing else: an exception is a sentence, and the verdict `error`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .console import say
from .errors import ConfigError
from .judges.base import Item, Judge, Verdict
from .judges.cache import VerdictCache
from .judges.canaries import CanaryResult, canary_result
from .judges.judging import judge_items

if TYPE_CHECKING:  # torch, for which a judge without a model does not wait
    from .processes import Processes


def names_of(judges: Sequence[Judge]) -> list[str]:
    """A name for each judge that no other has, for tags."""
    names: list[str] = []
    for judge in judges:
        name, number = judge.name, 2
        while name in names:
            name, number = f"{judge.name}_{number}", number + 1
        names.append(name)
    return names


def fingerprint_of(judge: Judge, name: str) -> str:
    """The judge's fingerprint; where its model cannot be found, its name."""
    try:
        return judge.fingerprint
    except Exception:  # whatever a model's files do
        return name


class Session:
    """A judge that is asked by all processes together, from `open` to `close`, and never fails.

    Each process judges its share of the different items, and all are told all verdicts.

    Args:
        judge: that is asked.
        name: in sentences.
        cache: of verdicts.
        processes: that take part; every one makes the same calls. None: this one alone.
        advance: told how many more items of this process are done.
        device: where a judge that is a model computes; that of the processes, where they are given.
        stop: asked now and then; once it says so, what is left has the verdict `error`.
    """

    def __init__(
        self,
        judge: Judge,
        name: str,
        cache: VerdictCache | None = None,
        processes: Processes | None = None,
        advance: Callable[[int], None] | None = None,
        device: str = "cpu",
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.wrapped, self.name, self.cache, self.processes, self.advance = judge, name, cache, processes, advance
        self.device, self.stop = device, stop
        self.failure = ""

    def open(self) -> None:
        """Prepare the judge on the device of the process; its clock, if it has one, starts again."""
        if not self.failure and type(self.wrapped).prepare is not Judge.prepare:
            self._try(lambda: self.wrapped.prepare(self.processes.device if self.processes else _device(self.device)))

    def close(self) -> None:
        """Release what it took."""
        self._try(self.wrapped.release)

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item, in order, on every process."""
        different = list(dict.fromkeys(items))
        own = different if self.processes is None else different[self.processes.rank :: self.processes.size]
        verdicts: list[Verdict] | None = None
        if own and not self.failure:
            verdicts = self._try(
                lambda: judge_items(self.wrapped, own, self.cache, stop=self.stop, advance=self.advance)
            )
        if verdicts is None:
            name = fingerprint_of(self.wrapped, self.name)
            verdicts = [Verdict("error", None, "", self.failure or "the judge failed", name)] * len(own)
        found = dict(zip(different, self._shared(verdicts, len(different)), strict=True))
        return [found[item] for item in items]

    def _shared(self, own: Sequence[Verdict], count: int) -> list[Verdict]:
        """The verdicts of all processes, in the order of the items that were dealt out."""
        if self.processes is None or self.processes.size == 1:
            return list(own)
        places = range(self.processes.rank, count, self.processes.size)
        texts = gathered({i: json.dumps(v) for i, v in zip(places, own, strict=True)}, count, self.processes)
        return [Verdict(*json.loads(text)) for text in texts]

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # Ctrl-C is no Exception
            text = str(error).splitlines()[0].rstrip(".") if str(error) else ""
            self.failure = f"{type(error).__name__}: {text}"
            say(f"{self.name} cannot judge: {self.failure}. Its verdicts are errors; `lit-pref judge` can try later.")
            return None


def canaries_of(session: Session) -> CanaryResult | None:
    """How often the judge is talked round; None where it could not be asked often enough, and is to be tried again."""
    result = canary_result(session)  # type: ignore[arg-type]  # all it does is to judge
    if result.complete:
        return result
    say(result.sentence(session.name))
    return None


def _device(name: str) -> Any:
    import torch  # here, since a judge without a model does without

    return torch.device(name)


def device_named(name: str) -> str:
    """The name of a device of torch, which is not imported to hear of the CPU.

    Raises:
        ConfigError: there is none of that name.
    """
    if name != "cpu":
        import torch

        try:
            torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device is {name!r}\n  Fix: give cpu, cuda, cuda:1 or the like.") from error
    return name


def gathered(own: dict[int, str], count: int, processes: Processes) -> list[str]:
    """Texts that processes hold by place, on all of them: lengths go round first, then all bytes in one row."""
    import torch

    held = {place: text.encode("utf-8", "replace") for place, text in own.items()}
    sizes = torch.zeros(count, dtype=torch.int64)
    for place, raw in held.items():
        sizes[place] = len(raw)
    sizes = processes.total(sizes.to(processes.device)).cpu()
    ends = sizes.cumsum(0).tolist()
    row = torch.zeros(ends[-1] if ends else 0, dtype=torch.int64)
    for place, raw in held.items():
        row[ends[place] - len(raw) : ends[place]] = torch.frombuffer(bytearray(raw), dtype=torch.uint8).long()
    everything = bytes(processes.total(row.to(processes.device)).cpu().to(torch.uint8).numpy())
    return [everything[end - size : end].decode() for end, size in zip(ends, sizes.tolist(), strict=True)]
