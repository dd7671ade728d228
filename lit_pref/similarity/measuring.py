"""Measures of similarity of many pairs under one model. Knows nothing about files, callbacks or training.

To add a measure: one function in ``measures.py``, one line in ``MEASURES``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..batch import Pair, lay_out, lay_out_packed
from ..errors import ConfigError
from ..evaluating import evaluating
from ..fast_path import fast_path
from ..forward import predictions
from ..processes import ALONE, Processes
from . import measures
from .alphas import Predictions, alpha_ches
from .states import Ids, calls, states_of


class Side(NamedTuple):
    """What one side of B pairs gives to measures; None where no measure asked for it.

    Attributes:
        bodies: B responses in token ids, without the tokens that only end them.
        lengths: (B,) response tokens.
        sums: (B, D) sum of predicting states.
        last: (B, D) state at the last token of the body.
        means: (B, D) mean state of the body read alone; NaN where it is empty.
        logps: (B,) log-probability, nats.
    """

    bodies: Sequence[Ids]
    lengths: Tensor
    sums: Tensor
    last: Tensor
    logps: Tensor
    means: Tensor


class Measure(NamedTuple):
    """A measure: which reading of the model it needs, and its value from both sides.

    Attributes:
        reads: "pair" reads each response behind its prompt, "alone" without it, "predictions" also what the model
            predicts at every response token; "ids" needs no model.
        of: (chosen, rejected) -> (B,) values; None where the reading gives them itself.
    """

    reads: str
    of: Callable[[Side, Side], Tensor] | None = None


def _edit(chosen: Side, rejected: Side) -> Tensor:
    pairs = zip(chosen.bodies, rejected.bodies, strict=True)
    return torch.tensor([measures.edit_similarity(a, b) for a, b in pairs], dtype=torch.float64)


MEASURES: dict[str, Measure] = {
    "ches": Measure("pair", lambda c, r: measures.ches(c.sums, r.sums)),
    "ln_ches": Measure("pair", lambda c, r: measures.ln_ches(c.sums, r.sums, c.lengths, r.lengths)),
    "last_hidden": Measure("pair", lambda c, r: measures.last_hidden(c.last, r.last)),
    "edit_similarity": Measure("ids", _edit),
    "response_cosine": Measure("alone", lambda c, r: measures.response_cosine(c.means, r.means)),
    "alpha_ches": Measure("predictions"),
    "positive_alphas": Measure("predictions"),
}
#: Those of the paper's own comparison; they need neither the output embedding nor a second reading.
USUAL = ("ches", "ln_ches", "last_hidden", "edit_similarity")


@dataclass(frozen=True)
class Measuring:
    """What to measure of pairs, and in calls of what size.

    Attributes:
        names: of ``MEASURES``.
        endings: tokens that only end a response, such as end-of-sequence; left out of bodies.
        tokens_per_batch: most tokens of one model call, padding included.
        logps: also give log-probabilities of both sides, as "chosen_logps" and "rejected_logps", nats.
    """

    names: Sequence[str] = USUAL
    endings: frozenset[int] = frozenset()
    tokens_per_batch: int = 4096
    logps: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in MEASURES]
        if unknown:
            raise ConfigError(f"there is no measure {unknown[0]!r}.\n  Choices: {', '.join(MEASURES)}")
        if self.tokens_per_batch < 1:
            raise ConfigError(f"tokens_per_batch is {self.tokens_per_batch}, but must be at least 1")

    def __call__(self, model: nn.Module, pairs: Sequence[Pair], processes: Processes = ALONE) -> dict[str, Tensor]:
        """Measure every pair, on every process.

        Returns:
            name -> (B,) float64 on the CPU, in the order of ``pairs``; NaN where a measure has no value.
        """
        with evaluating(model):
            chosen, rejected = self._sides(model, pairs, processes)
            found = {name: of(chosen, rejected) for name in self.names if (of := MEASURES[name].of)}
            if self._reads("predictions"):
                found |= self._alphas(model, pairs, processes)
        if self.logps:
            found |= {"chosen_logps": chosen.logps, "rejected_logps": rejected.logps}
        asked = [*self.names, *(["chosen_logps", "rejected_logps"] if self.logps else [])]
        return {name: found[name].double().cpu() for name in asked}

    def body(self, response: Ids) -> Ids:
        """A response without the tokens that only end it."""
        end = len(response)
        while end and response[end - 1] in self.endings:
            end -= 1
        return response[:end]

    def _reads(self, what: str) -> bool:
        return any(MEASURES[name].reads == what for name in self.names)

    def _sides(self, model: nn.Module, pairs: Sequence[Pair], processes: Processes) -> tuple[Side, Side]:
        responses = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        bodies = [self.body(response) for response in responses]
        lengths = torch.tensor([len(response) for response in responses], device=processes.device)
        nothing = torch.empty(len(responses), 0)
        sums = last = means = logps = nothing
        if self._reads("pair") or self.logps:
            sequences = [(pair.prompt, response) for pair, response in zip([*pairs, *pairs], responses, strict=True)]
            endings = [len(response) - len(body) for response, body in zip(responses, bodies, strict=True)]
            sums, last, logps = states_of(model, sequences, endings, self.tokens_per_batch, processes, logps=self.logps)
        if self._reads("alone"):
            means = self._means(model, bodies, processes)
        size = len(pairs)
        first, second = (
            Side(bodies[side], *(values[side] for values in (lengths, sums, last, logps, means)))
            for side in (slice(0, size), slice(size, 2 * size))
        )
        return first, second

    def _means(self, model: nn.Module, bodies: Sequence[Ids], processes: Processes) -> Tensor:
        """(S, D) mean states over the tokens of each body, read alone."""
        filled = [i for i, body in enumerate(bodies) if len(body)]
        if not filled:
            return torch.full((len(bodies), 1), float("nan"))
        # Behind its first token as prompt, the states that predict the rest, and one token more, are all of its own.
        alone = [(bodies[i][:1], [*bodies[i][1:], bodies[i][-1]]) for i in filled]
        sums = states_of(model, alone, [0] * len(alone), self.tokens_per_batch, processes).sums
        means = sums.new_full((len(bodies), sums.shape[1]), float("nan"))
        lengths = torch.tensor([len(bodies[i]) for i in filled], device=sums.device)
        means[torch.tensor(filled, device=sums.device)] = sums / lengths.unsqueeze(-1)
        return means

    @torch.no_grad()
    def _alphas(self, model: nn.Module, pairs: Sequence[Pair], processes: Processes) -> dict[str, Tensor]:
        table = torch.zeros(len(pairs), 2, dtype=processes.wide, device=processes.device)
        lengths = [len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
        lay = lay_out_packed if fast_path(model, processes.device).packs else lay_out
        for batch, counts in processes.deal(calls(lengths, self.tokens_per_batch, rows=2)):
            sequences = [(pairs[i].prompt, side) for i in batch for side in (pairs[i].chosen, pairs[i].rejected)]
            layout = lay(sequences).to(processes.device)
            with processes.arithmetic():
                states, logits = predictions(model, layout, layout.state_index)
            sizes = layout.lengths.tolist()
            sides = [
                Predictions(*p) for p in zip(*(t.split(sizes) for t in (states, logits, layout.target)), strict=True)
            ]
            if counts:
                for place, i in enumerate(batch):
                    table[i] = torch.stack(alpha_ches(sides[2 * place], sides[2 * place + 1])).to(table)
        scores, positive = processes.total(table).unbind(-1)
        return {"alpha_ches": scores, "positive_alphas": positive}
