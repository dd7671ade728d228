"""``lit-pref sample-preferences``: answers, verdicts, labels, lines. Knows the order of the steps, not the steps."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..console import say
from ..data.rows import DataError
from ..drawing import Sampling
from ..errors import ConfigError
from ..judges import Item, Judge, Verdict, VerdictCache
from ..models import CausalLM
from ..paths import file_sha256
from ..prompts import Prompt
from ..run_answers import spoken
from .answering import Answer, DeviceName, answers, device_of
from .judging import Canaries, judged
from .labelling import Candidate, Labelled, Pairing, label, needs_tie_break
from .pairs_file import Line, Side, acceptable, files_of, line_of, report_of, split, table, write_lines
from .prompt_source import PromptSource, name_of
from .tie_breaks import Contestant, TieBreak
from .writing import write_text


@dataclass
class SamplePreferences:
    """Make preference pairs out of a model's own responses: refusals over compliances, ties by a tie-break.

    As in section 6 of Razin et al., ICLR 2025. Runs as one process on one device; a killed run goes on where it
    stopped and ends with the same files.

    Args:
        model: writes the responses.
        prompts: what it answers.
        judge: says which response is a refusal; a class_path with init_args. One that more than a tenth of the
            canaries (responses that tell a judge what to say) talk round is refused before anything is sampled.
        out: pairs.jsonl stands for pairs.train.jsonl and pairs.test.jsonl, which lit-pref fit reads, and for
            pairs.responses.jsonl, pairs.verdicts.sqlite and pairs.report.json beside them.
        tie_break: decides between two responses of one verdict; a class_path: lit_pref.preferences.RandomTie,
            Shorter, Longer, RewardModel, WorldStyle, InTurn, or your own. Without one such pairs are dropped.
        sampling: how responses are drawn; samples is their number for each prompt, at least 2.
        pairing: "first" makes the pair of the first two different responses that have a verdict; "extremes" of the
            best and the worst of all, refusals above compliances and by tie-break within each.
        test_share: share of the pairs that is put aside as test pairs; whole prompts are, so that none is asked on both
            sides, and never more pairs than this share.
        split_seed: of that choice.
        device: auto, cpu or cuda.
        checkpoint: file of a run whose policy answers in the place of the model's own weights.
    """

    model: CausalLM
    prompts: PromptSource
    judge: Judge
    out: str
    tie_break: TieBreak | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(samples=2))
    pairing: Pairing = "first"
    test_share: float = 0.15
    split_seed: int = 0
    device: DeviceName = "auto"
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.test_share < 1:
            raise ConfigError(f"test_share is {self.test_share}, but must be at least 0 and below 1")
        if self.sampling.samples < 2:
            raise ConfigError(
                f"sampling.samples is {self.sampling.samples}, but a pair needs two responses.\n"
                "  Fix: set sampling.samples to 2 or more."
            )
        if Path(self.out).suffix != ".jsonl" or Path(self.out).is_dir():
            raise ConfigError(f"--out {self.out}: this is no name of a JSONL file.\n  Fix: e.g. --out pairs.jsonl")
        if self.checkpoint is not None and not Path(self.checkpoint).expanduser().is_file():
            raise ConfigError(f"--checkpoint {self.checkpoint}: there is no such file.\n  Fix: check the path.")

    def run(self) -> dict[str, Any]:
        """Sample, judge, label and write; returns the report.

        Raises:
            DataError: not one prompt gives a pair, or two prompts have one name.
            ConfigError: the judge is talked round too often.
        """
        device, files = device_of(self.device), files_of(Path(self.out).expanduser())
        tokenizer = self.model.tokenizer()
        prompts = self.prompts.read(tokenizer, files["prompts"])
        self.prompts.demand_names(prompts, files["prompts"])
        cache = VerdictCache(files["verdicts"])
        canaries = Canaries(self.judge, cache, device)
        say(canaries.sentence)
        canaries.demand()
        checkpoint = None if self.checkpoint is None else Path(self.checkpoint).expanduser()
        found = answers(
            self.model, tokenizer, prompts, self.sampling, self.prompts.template, files["responses"], device,
            checkpoint, None if checkpoint is None else checkpoint_name(checkpoint),
        )  # fmt: skip
        items = [[Item(spoken(p.text), a.text) for a in own] for p, own in zip(prompts, found, strict=True)]
        verdicts = judged(self.judge, items, cache, device)
        lines, dropped = self._lines(prompts, found, verdicts, device)
        if not lines:
            reasons = ", ".join(f"{n} {name}" for name, n in dropped.items())
            fix = "look at the responses and at what the judge says of them, or set a tie_break"
            message, kept = f"no prompt gives a pair ({reasons}).", "Responses and verdicts are kept."
            raise DataError.of_file("no-pairs", files["responses"], message, fix, kept)
        parts = split(lines, self.test_share, self.split_seed)
        report = {**report_of(len(prompts), parts, dropped), "judge": canaries.record()}
        return self._write(parts, report, files, verdicts, max(len(p.ids) for p in prompts))

    def _lines(
        self,
        prompts: Sequence[Prompt],
        found: Sequence[Sequence[Answer]],
        verdicts: Sequence[Sequence[Verdict]],
        device: torch.device,
    ) -> tuple[list[Line], Counter[str]]:
        """Lines of the prompts that give a pair, and how many do not for each reason."""
        candidates = [
            [Candidate(a.text, v.label) for a, v in zip(own, said, strict=True)]
            for own, said in zip(found, verdicts, strict=True)
        ]
        self._break_ties(prompts, candidates, device)
        lines: list[Line] = []
        dropped: Counter[str] = Counter()
        for prompt, own, said, competing in zip(prompts, found, verdicts, candidates, strict=True):
            pair = label(competing, self.pairing, self.tie_break is not None)
            if isinstance(pair, Labelled):
                chosen, rejected = (
                    Side(own[i].text, said[i].label, said[i].score, competing[i].score if pair.tie else None,
                         own[i].ended)
                    for i in (pair.chosen, pair.rejected)
                )  # fmt: skip
                rule = type(self.tie_break).__name__ if pair.tie else None
                lines.append(line_of(name_of(prompt), prompt.text, chosen, rejected, pair.pair_class, rule))
            else:
                dropped[pair] += 1
        kept, refused = acceptable(lines)
        return kept, dropped + refused

    def _break_ties(self, prompts: Sequence[Prompt], candidates: list[list[Candidate]], device: torch.device) -> None:
        """Give scores to the responses that need one."""
        asked = [(p, i) for p, own in enumerate(candidates) for i in needs_tie_break(own, self.pairing)]
        if self.tie_break is None or not asked:
            return
        self.tie_break.prepare(device)
        scores = self.tie_break.scores([Contestant(prompts[p].text, candidates[p][i].text) for p, i in asked])
        self.tie_break.release()
        for (p, i), score in zip(asked, scores, strict=True):
            candidates[p][i] = candidates[p][i]._replace(score=score)

    def _write(
        self,
        parts: dict[str, list[Line]],
        report: dict[str, Any],
        files: dict[str, Path],
        verdicts: Sequence[Sequence[Verdict]],
        longest: int,
    ) -> dict[str, Any]:
        for name in ("test", "train"):
            if parts[name]:
                write_lines(files[name], parts[name])
            else:
                files[name].unlink(missing_ok=True)  # of an earlier run with another share
        write_text(files["report"], json.dumps(report, indent=1) + "\n")
        say(f"\n{table(report)}")
        errors = sum(v.label == "error" for said in verdicts for v in said)
        if errors:
            first = next(v.reason for said in verdicts for v in said if v.label == "error")
            say(f"{errors:,} responses could not be judged ({first}); the same command asks for them again.")
        say(f"\nPairs: {files['train']} ({len(parts['train']):,})" +
            (f" and {files['test']} ({len(parts['test']):,})" if parts["test"] else ""))  # fmt: skip
        say(f"Train on them:\n  {self._training(files, bool(parts['test']), longest)}")
        return report

    def _training(self, files: dict[str, Path], tested: bool, longest: int) -> str:
        """The command that trains on the pairs as they were sampled."""
        template = self.prompts.template
        options = {
            "--model.policy.path": self.model.path,
            "--data.path": str(files["train"]),
            "--data.val_path": str(files["test"]) if tested else None,
            "--data.columns.labels": "[pair_class]",
            "--data.template.format": template.format if template.format != "auto" else None,
            "--data.template.plain": template.plain if template.plain != "{prompt}" else None,
            "--data.template.chat": template.chat,
            "--data.max_length": str(longest + self.sampling.max_new_tokens + 1)
            if longest + self.sampling.max_new_tokens >= 1024
            else None,
        }  # fmt: skip
        given = " ".join(f"{key} {shlex.quote(value)}" for key, value in options.items() if value is not None)
        return f"lit-pref fit -c configs/base.yaml -c configs/objectives/dpo.yaml {given}"


def checkpoint_name(path: Path) -> str:
    """What tells a checkpoint from all others."""
    return f"checkpoint {file_sha256(path)}"
