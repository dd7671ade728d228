"""The LightningModule: builds policy and reference, scores, steps, optimizes. It contains no formula."""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from objectives import Objective, ObjectiveOutput, PairScores

from .allocator import keep_large_blocks
from .batch import PreferenceBatch
from .errors import ConfigError
from .models import CausalLM, share_kept_by_rounding
from .order import pairs_per_step
from .progress import scheduled_steps, share_done
from .references import FrozenModel, NoReference, Reference
from .scoring import Wanted, score
from .sharding import check_whole_steps, loading, unasked

#: What a reference reads from its source again is left out of checkpoints.
FROZEN_PREFIX = "reference.frozen."
NO_OBJECTIVE = (
    "model.objective is not set, but only lit-pref score does without one.\n"
    "  Fix: add a file of configs/objectives, e.g. -c configs/objectives/dpo.yaml, or --model.objective DPO."
)


class _Unchosen(Objective):
    """Stands where no objective is named, since ``lit-pref score`` needs none; all else refuses it."""

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        raise ConfigError(NO_OBJECTIVE)


class PreferenceModule(pl.LightningModule):
    """Train a policy on preference pairs by any objective, beside a reference.

    Args:
        policy: the model that is trained.
        objective: what its scores are trained on, e.g. DPO, IPO, SimPO, SFT, WeightedSum; only scoring needs none.
        reference: what the policy is compared with; by default a frozen copy of its initial state.
        optimizer: e.g. AdamW with its arguments; it is given the trainable parameters.
        scheduler: learning-rate schedule in optimizer steps of all training pairs; where pruning shortens epochs it is
            advanced faster, so that it ends where training ends.
    """

    def __init__(
        self,
        policy: CausalLM,
        objective: Objective | None = None,
        reference: Reference | None = None,
        optimizer: OptimizerCallable = partial(torch.optim.AdamW, fused=True),  # noqa: B008, of constants
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.source = policy
        self.objective: Objective = objective or _Unchosen()
        self.reference = reference or FrozenModel()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.policy: nn.Module | None = None
        #: A callback that reads ``initial``, the scores that displacement starts from, of training batches sets this.
        self.watch_reference = False
        self._stepped = 0

    def setup(self, stage: str) -> None:
        unasked(self.trainer)
        if self.trainer.strategy.root_device.type == "cpu":
            keep_large_blocks()

    def configure_model(self) -> None:
        """Build both models, inside whatever context the strategy shards construction with; safe to call again."""
        if isinstance(self.objective, _Unchosen):
            raise ConfigError(NO_OBJECTIVE)
        if self.objective.needs_reference and isinstance(self.reference, NoReference):
            raise ConfigError(
                f"{type(self.objective).__name__} compares with a reference, but model.reference is NoReference.\n"
                "  Fix: set model.reference to lit_pref.references.FrozenModel."
            )
        if self.policy is None:
            with loading(self._trainer, cut=self.source.weights == "pretrained"):
                self.policy = self.source.build()
                self.reference.build(self.source)

    def forward(self, batch: PreferenceBatch) -> PairScores:
        """Scores of the batch under the policy, with what the objective wants of them."""
        assert self.policy is not None, "configure_model has not run"
        wanted = Wanted(self.objective.needs_tokens, self.objective.needs_gradient_norms)
        return score(self.policy, batch, wanted)

    def on_train_start(self) -> None:
        self._stepped = self.trainer.global_step
        self.reference.prepare(self.trainer)

    def on_validation_start(self) -> None:
        self.reference.prepare(self.trainer)

    on_test_start = on_predict_start = on_validation_start

    def on_train_epoch_start(self) -> None:
        check_whole_steps(self.trainer)

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> dict[str, Any]:
        accumulate = self.trainer.accumulate_grad_batches
        self.objective.progress = share_done(self.trainer, batch_idx // accumulate * accumulate)
        outputs = self._step(batch, self.watch_reference)
        loss = self._step_loss(outputs["output"], batch_idx)
        return {**apply_to_collection(outputs, Tensor, Tensor.detach), "loss": loss}

    def validation_step(self, batch: PreferenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._step(batch, True)

    test_step = validation_step
    predict_step = validation_step

    def on_train_batch_end(self, outputs: Any, batch: PreferenceBatch, batch_idx: int) -> None:
        if self._stepped != self.trainer.global_step:
            self._stepped = self.trainer.global_step
            assert self.policy is not None
            self.reference.after_step(self.policy, self._stepped)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        self._warn_of_rounding(optimizer)
        # Fused optimizers can undo the scale of a loss by themselves, for which Lightning refuses to clip gradients. It
        # undoes it before it clips in any case; where it is told that they cannot, both go together.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        if self.make_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance a schedule by one step, or by several where pruning made epochs shorter than planned."""
        steps = scheduled_steps(self.trainer, self.trainer.fit_loop.epoch_loop.batch_idx + 1)
        taken = getattr(scheduler, "last_epoch", None)  # schedules made of schedules may not count
        behind = 1 if steps is None or taken is None else steps - taken
        for _ in range(behind):
            scheduler.step()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The policy's weights, and what objective and reference have learnt; never what is frozen."""
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if not key.startswith(FROZEN_PREFIX)}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Strict for all that is stored; what is frozen keeps its weights. ConfigError where they do not fit."""
        own = super().state_dict()
        frozen = {key: value for key, value in own.items() if key.startswith(FROZEN_PREFIX)}
        try:
            return super().load_state_dict({**frozen, **state_dict}, strict, assign)
        except RuntimeError as error:
            reasons = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
            raise ConfigError(
                f"the checkpoint does not fit the model: {reasons[0][:200]}\n"
                "  Fix: give model.policy (with adapters), model.objective and model.reference of the run it is from."
            ) from error

    def _step(self, batch: PreferenceBatch, measure: bool) -> dict[str, Any]:
        """Score, compare, and say where training began; ``measure`` asks for that even if the objective does not."""
        policy = self(batch)
        assert self.policy is not None
        reference = None
        if measure or self.objective.needs_reference:
            reference = self.reference.score(self.policy, batch, Wanted(tokens=self.objective.needs_tokens))
        initial = self.reference.initial(self.policy, batch, reference) if measure else None
        if batch.mismatched is not None:
            policy, reference = self._with_mismatched(policy, reference, batch.mismatched)
        output: ObjectiveOutput = self.objective(policy, reference)
        return {"policy": policy, "reference": reference, "initial": initial, "output": output, "batch": batch}

    @torch.no_grad()
    def _with_mismatched(
        self, policy: PairScores, reference: PairScores | None, batch: PreferenceBatch
    ) -> tuple[PairScores, PairScores | None]:
        assert self.policy is not None
        policy = policy._replace(mismatched=score(self.policy, batch))
        if reference is not None:
            reference = reference._replace(mismatched=self.reference.score(self.policy, batch))
        return policy, reference

    def _step_loss(self, output: ObjectiveOutput, batch_idx: int) -> Tensor:
        """A share of the mean over all pairs of the optimizer step, exact for ragged batches and trailing groups.

        Lightning divides by ``accumulate_grad_batches`` and strategies average over processes; both are undone, so
        that every pair weighs the same whatever batch it fell into.
        """
        accumulate = self.trainer.accumulate_grad_batches
        loader: Any = self.trainer.train_dataloader
        counts = loader.sampler.pair_counts[: self.trainer.num_training_batches]
        scale = accumulate * self.trainer.world_size / pairs_per_step(counts, batch_idx, accumulate)
        if self.trainer.strategy.handles_gradient_accumulation:
            scale *= accumulate  # who counts batches by itself divides by it once more
        return output.losses.sum() * scale

    def _warn_of_rounding(self, optimizer: torch.optim.Optimizer) -> None:
        assert self.policy is not None
        learning_rate = max(group["lr"] for group in optimizer.param_groups)
        share = share_kept_by_rounding(self.policy, learning_rate)
        if share > 0.5:
            self.print(
                f"Warning: {share:.0%} of the trainable weights are bfloat16 and too large for a learning rate of "
                f"{learning_rate:g} to change them.\n  Fix: set model.policy.dtype to float32, and "
                "trainer.precision to bf16-mixed for bfloat16 arithmetic."
            )
