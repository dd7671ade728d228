"""Lightning's Trainer with one verb more, ``score``. Knows nothing about how pairs are measured or kept."""

import sys
from contextlib import ExitStack
from pathlib import Path

import lightning.pytorch as pl

from .console import say
from .data.datamodule import PreferenceData
from .errors import ConfigError
from .module import PreferenceModule
from .similarity.figure import draw
from .similarity.measuring import MEASURES, USUAL, Measuring
from .similarity.scored_data import ScoredData
from .similarity.scoring_run import Request, ScoringRun
from .similarity.shards import Shards
from .similarity.summary import summary


class PrefTrainer(pl.Trainer):
    """A Trainer that also scores: how similar the two responses of each pair look to the model.

    Attributes:
        started_from: the checkpoint that the command was told to go on from; callbacks look for their files near it.
        stopped_by: class of the callback that first asked training to stop.
    """

    started_from: str | None = None
    stopped_by: str | None = None
    _should_stop = False

    @property
    def should_stop(self) -> bool:
        """Whether training is to end before its limits; remembers who asked for it, which Lightning does not."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if not (value and self._should_stop):
            self.stopped_by = _calling_callback() if value else None
        self._should_stop = value

    def score(
        self,
        model: PreferenceModule,
        datamodule: PreferenceData,
        out: str = "scores.parquet",
        measures: list[str] | str = "usual",
        tokens_per_batch: int = 1024,
        overwrite: bool = False,
        ckpt_path: str | None = None,
    ) -> None:
        """Write how similar the two responses of every pair of data.path look to the policy.

        One line a pair, in the order of the data, and beside the file its figure as PNG and SVG. Needs no objective
        and builds no reference. What is done is kept in OUT.parts, so that the same command continues a killed run.

        Args:
            model: holds the policy that measures.
            datamodule: says what the pairs are; validation and test sources are not read.
            out: the Parquet file to write; data.selection of lit-pref fit reads it.
            measures: "usual" (ches, ln_ches, last_hidden, edit_similarity), "all" (also response_cosine, alpha_ches,
                positive_alphas), or a list such as [ches,alpha_ches].
            tokens_per_batch: most tokens of one model call, padding included; more is faster on a GPU.
            overwrite: replace a file of other scores; a finished file of the same is never computed again.
            ckpt_path: checkpoint of a run whose policy measures, in the place of the model's own weights.
        """
        request = Request(measures_of(measures), tokens_per_batch, overwrite, checkpoint_of(ckpt_path))
        Measuring(request.measures, tokens_per_batch=tokens_per_batch)  # refuses what is wrong before anything is read
        shards = Shards(out)
        if self.progress_bar_callback is not None:
            self.progress_bar_callback.disable()  # the run has a bar of its own, which counts pairs
        self.limit_predict_batches = 1.0
        listing = shards.out.with_suffix(".bad_rows.jsonl")
        try:
            with ExitStack() as stack:
                run = ScoringRun(model.source, request, shards, stack)
                self.predict(run, datamodule=ScoredData(datamodule, model.source, listing), return_predictions=False)
            table = run.finish()
        finally:
            shards.close()
        if table is not None:
            columns = {name: table[name].to_numpy() for name in request.measures}
            pictures = draw(columns, shards.out)
            say(f"\n{summary(columns)}\n")
            say(f"Scores of {len(table):,} pairs: {shards.out}")
            say(f"Figure: {' and '.join(map(str, pictures))}")


def _calling_callback() -> str | None:
    """Class of the callback within whose hook this is called; None where it is called by none."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, pl.Callback):
            return type(owner).__name__
        frame = frame.f_back  # type: ignore[assignment]
    return None


def measures_of(chosen: list[str] | str) -> list[str]:
    """Names of measures, each once; ConfigError where there is none."""
    if isinstance(chosen, str):
        words = {"usual": list(USUAL), "all": list(MEASURES)}
        chosen = words.get(chosen, [name.strip() for name in chosen.split(",")])
    if not chosen:
        raise ConfigError(f"--measures names none.\n  Choices: usual, all, or a list of {', '.join(MEASURES)}")
    return list(dict.fromkeys(chosen))


def checkpoint_of(path: str | None) -> Path | None:
    """The file of a checkpoint; ConfigError where it is none."""
    if path is None:
        return None
    found = Path(path).expanduser()
    if not found.is_file():
        why = "is a folder, as sharded checkpoints are" if found.is_dir() else "is no file"
        raise ConfigError(f"--ckpt_path {path}: this {why}.\n  Fix: give the file of one checkpoint, e.g. last.ckpt.")
    return found
