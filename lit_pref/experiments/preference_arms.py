"""Stages of an experiment on a model's own preferences: its pairs, their scores, arms, verdicts on what arms answer.

Knows command lines and files; nothing about which arms there are or what is made of the verdicts. Imports no torch
before the first arm has run.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..console import say
from ..errors import ConfigError
from ..paths import file_sha256
from .arms import Arm, command, run_arms
from .failure import Failure
from .opinions import Judged
from .stages import contents, digest, filled, merged, stage, written

if TYPE_CHECKING:
    from ..preferences.prompt_source import PromptSource

#: The table's line for the model before training.
INITIAL = "initial model"
#: Part of an arm's key: what a result holds. Results without a digest of the weights are not taken for finished.
HELD = "weights' sha256"
CALLBACKS = [
    {"class_path": "callbacks.Ledger", "init_args": {"measures": []}},
    {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
     "init_args": {"filename": "last", "save_weights_only": True, "enable_version_counter": False,
                   "save_on_train_epoch_end": True}},
]  # fmt: skip


def check_arms(arms: Mapping[str, Mapping[str, Any] | None], keys: Sequence[str]) -> None:
    """ConfigError where an arm has another key than ``keys``, or the name of the table's first line."""
    for name, arm in arms.items():
        wrong = sorted(set(arm or {}) - set(keys))
        if wrong or name == INITIAL:
            raise ConfigError(f"arms.{name} has {', '.join(wrong) or 'the name of a line of the table'}.\n"
                              f"  Choices: {', '.join(keys)}")  # fmt: skip


def check_judge(sample: dict[str, Any], evaluation: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """ConfigError where the second judge cannot be made, before hours of training and not after them."""
    if evaluation.get("second_judge"):
        from .refusals import judge_of

        judge_of(filled(sample, seeds[0]), filled(evaluation["second_judge"], seeds[0]))


def sampled(sample: dict[str, Any], out: Path, what: str) -> Path:
    """Stands for pairs.train.jsonl and its fellows; whoever asks the same shares them.

    Args:
        sample: keys and values of ``lit-pref sample-preferences`` without out.
        out: folder of the experiment.
        what: whose pairs, to say.
    """
    folder = out / "pairs" / digest(sample)
    path = folder / "pairs.jsonl"
    if not path.with_suffix(".report.json").exists():  # it is written last
        say(f"Sampling the preferences of {what}")
        asked = ["sample-preferences", "-c", written(folder / "sample.yaml", sample), "--out", str(path)]
        stage(command, asked, folder / "log.txt")
    return path


def scored(config: dict[str, Any], measure: str, out: Path, what: str) -> Path:
    """Scores of a run's training pairs under its initial model, by ``lit-pref score``.

    Asked each time: it is the command that knows whether model and data are those of a finished file.
    """
    path = out / "scores" / f"{digest([config['model']['policy'], config['data'], measure])}.parquet"
    say(f"Scoring the pairs of {what}")
    asked = ["score", "-c", written(path.with_suffix(".yaml"), config), "--out", str(path)]
    stage(command, [*asked, "--measures", f"[{measure}]", "--overwrite", "true"], path.with_suffix(".log"))
    return path


def arm_of(name: str, config: dict[str, Any], given: Mapping[str, Any], scores: Path | None, measure: str) -> Arm:
    """A run of ``lit-pref fit``.

    Args:
        name: of the run.
        config: what all arms share, with the data.
        given: what is this arm's own: fit is in ``config`` already; rule and match_steps are put in here.
        scores: file that the rule reads.
        measure: column of it.
    """
    inputs = [Path(config["data"][key]) for key in ("path", "val_path") if _is_file(config["data"].get(key))]
    if given.get("rule"):
        assert scores is not None
        selection = {"scores": str(scores.resolve()), "measure": measure, "rule": given["rule"],
                     "match_steps": bool(given.get("match_steps"))}  # fmt: skip
        config = merged(config, {"data": {"selection": selection}})
        inputs.append(scores)
    callbacks = [*config.get("trainer", {}).get("callbacks", []), *CALLBACKS]
    return Arm(name, merged(config, {"trainer": {"callbacks": callbacks}}), f"{HELD} {contents(inputs)}")


def run_preference_arms(
    arms: Sequence[Arm], folder: Path, read: Callable[[Path], dict[str, Any]], jobs: int
) -> tuple[dict[str, dict[str, Any]], dict[str, Failure]]:
    """As ``run_arms``; each result has an identity too, which no other weights have.

    A run's folder is no such thing: it is the same again after it was removed and trained with other settings.
    """
    results, failed = run_arms(arms, folder, read, jobs)
    keys = {arm.name: arm.key for arm in arms}
    named = {name: {**found, "identity": f"{keys[name]} {found['sha256']}"} for name, found in results.items()}
    return named, failed


def labels_of(
    sample: dict[str, Any],
    evaluation: Mapping[str, Any],
    sets: Mapping[str, "PromptSource"],
    seed: int,
    folder: Path,
    trained: Mapping[str, Mapping[str, Any]],
    keep_checkpoints: bool,
) -> Judged:
    """Verdicts on what the initial model and every trained arm of a seed answer.

    Args:
        sample: keys of ``lit-pref sample-preferences``, whose model and judge these are.
        evaluation: sampling (of the answers; its seed plus the run's is the seed) and second_judge, if there is one.
        sets: name -> prompts.
        seed: of the runs.
        folder: of answers and verdicts.
        trained: arm -> its result.
        keep_checkpoints: whether weights stay on disk once a run has answered.

    Raises:
        ConfigError: the judge is talked round too often.
    """
    from .refusals import Refusals, sampling_of

    refusals = Refusals(sample, sampling_of(evaluation.get("sampling", {}), seed), sets, folder)
    items = {INITIAL: refusals.answer(f"initial_seed{seed}")}
    for name, fact in trained.items():
        checkpoint = Path(fact["run"]) / "checkpoints" / "last.ckpt"
        items[name] = refusals.answer(f"{name}_seed{seed}", checkpoint, fact["identity"])
        if not keep_checkpoints:
            checkpoint.unlink(missing_ok=True)  # of a large model they would fill the disk
    return refusals.judged(items, evaluation.get("second_judge"))


def trained(run: Path) -> dict[str, Any]:
    """What a run's files say: where it lies, its weights' digest, pairs and steps, how its own chosen ones moved."""
    ledger = pq.read_table(run / "ledger.parquet", columns=["epoch", "displacement", "kept"])
    last = ledger.filter(pc.equal(ledger["epoch"], pc.max(ledger["epoch"])))
    kept = ledger.filter(pc.and_kleene(pc.equal(ledger["epoch"], 0), ledger["kept"]))
    import torch  # late: whoever only reads a plan or a help text need not wait for it

    weights = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
    return {"run": str(run), "displacement": pc.mean(last["displacement"]).as_py(), "pairs": kept.num_rows,
            "steps": int(checkpoint["global_step"]), "sha256": file_sha256(weights)}  # fmt: skip


def _is_file(path: Any) -> bool:
    """Whether an arm's result depends on the bytes of a file of the experiment's own, which its name does not tell."""
    return path is not None and Path(path).is_file()
