"""Does a measure of similarity order data by displacement? Slices of equal size at percentiles of each measure.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 5, figure 2. Imports no torch.
"""

import csv
import json
import statistics
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from ..console import say
from ..errors import ConfigError
from ..paths import file_sha256
from .arms import Arm, command, run_arms
from .failure import Failure, first_error
from .percentile_figure import draw
from .stages import filled

Points = dict[str, dict[float, list[float]]]


@dataclass
class Percentiles:
    """Score the data with the initial model, train on slices of them, and draw how the chosen responses moved.

    Args:
        fit: keys and values of ``lit-pref fit`` that all arms share; "{seed}" in a text stands for the seed.
        measures: of similarity; each orders the data in its own way.
        quantiles: where the slices are centred, 0 for the lowest scores and 1 for the highest.
        count: pairs of a slice.
        seeds: of the runs; bars are the lowest and highest of them.
        out: folder of scores, runs, table and figure; arms that are done there are skipped.
        jobs: arms that run at once.
    """

    fit: dict  # of Any, the parser would fill in defaults of every class_path
    measures: list[str]
    quantiles: list[float]
    count: int
    seeds: list[int]
    out: str
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in ("measures", "quantiles", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is an empty list, but needs at least one entry")
        for name in ("jobs", "count"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for quantile in self.quantiles:
            if not 0 <= quantile <= 1:
                raise ConfigError(f"quantiles holds {quantile}, but each must lie between 0 and 1")

    def run(self) -> None:
        """Score, train, and write ``percentiles.csv``, ``percentiles.md``, ``percentiles.png`` and ``.svg``.

        Raises:
            PrefError: a command failed, whose exit code it has; arms that ended well are kept and not run again.
        """
        out = Path(self.out).expanduser()
        scores = self._scores(out)
        slices = [(m, q, s) for m in self.measures for q in self.quantiles for s in self.seeds]
        arms = {_name(*slice_): self._arm(*slice_, scores[slice_[2]]) for slice_ in slices}
        results, failed = run_arms(list(arms.values()), out / "arms", slice_change, self.jobs)
        points: Points = {m: {q: [] for q in self.quantiles} for m in self.measures}
        for measure, quantile, seed in slices:
            if (name := _name(measure, quantile, seed)) in results:
                points[measure][quantile].append(results[name]["chosen"])
        if failed:
            raise first_error(failed, len(arms))
        self._report(points, out)

    def _report(self, points: Points, out: Path) -> None:
        with (out / "percentiles.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["measure", "quantile", "seed", "chosen_change_nats"])
            for measure, quantile in ((m, q) for m in self.measures for q in self.quantiles):
                for seed, value in zip(self.seeds, points[measure][quantile], strict=True):
                    writer.writerow([measure, quantile, seed, repr(value)])
        text = table(points)
        (out / "percentiles.md").write_text(text + "\n")
        draw(points, [out / "percentiles.png", out / "percentiles.svg"])
        say(f"\nMean change of the chosen log-probability on the slice trained on (nats), {len(self.seeds)} runs, "
            f"lowest to highest:\n\n{text}\n\nFiles: {out}")  # fmt: skip

    def _config(self, seed: int) -> dict[str, Any]:
        config: dict[str, Any] = filled(self.fit, seed)
        return {**config, "seed_everything": seed}

    def _scores(self, out: Path) -> dict[int, Path]:
        """seed -> its file of scores; seeds that share model and data share it."""
        found: dict[int, Path] = {}
        for seed in self.seeds:
            config = self._config(seed)
            asked = {key: config.get(key) for key in ("model", "data")}
            key = sha256(json.dumps([asked, self.measures], sort_keys=True).encode()).hexdigest()[:12]
            path = out / "scores" / f"{key}.parquet"
            if path not in found.values():
                say(f"Scoring the pairs of seed {seed}")
                self._score(config, path)
            found[seed] = path
        return found

    def _score(self, config: dict[str, Any], path: Path) -> None:
        """Score, each time: it is the command that knows whether model and data are still those of a finished file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written, log = path.with_suffix(".yaml"), path.with_suffix(".log")
        written.write_text(yaml.safe_dump(config, sort_keys=False))
        measures = f"[{','.join(self.measures)}]"
        options = ["-c", str(written), "--out", str(path), "--measures", measures, "--overwrite", "true"]
        if code := command(["score", *options], log):
            raise Failure.of(code, log).error("scoring failed:")

    def _arm(self, measure: str, quantile: float, seed: int, scores: Path) -> Arm:
        config = self._config(seed)
        window = {"class_path": "lit_pref.pruning.QuantileWindow",
                  "init_args": {"quantile": quantile, "count": self.count}}  # fmt: skip
        selection = {"scores": str(scores.resolve()), "measure": measure, "rule": window}
        ledger = {"class_path": "callbacks.Ledger", "init_args": {"measures": []}}
        trainer = config.get("trainer", {})
        trainer = {**trainer, "callbacks": [*trainer.get("callbacks", []), ledger]}
        return Arm(
            _name(measure, quantile, seed),
            {**config, "data": {**config.get("data", {}), "selection": selection}, "trainer": trainer},
            # Of the data and the model that the scores are of: other bytes below the same path are other arms.
            file_sha256(scores),
        )


def slice_change(run: Path) -> dict[str, Any]:
    """Mean change of the chosen log-probability over the pairs that a run was trained on, from its ledger."""
    ledger = pq.read_table(run / "ledger.parquet", columns=["epoch", "row", "displacement", "kept"])
    first = ledger.filter(pc.and_kleene(pc.equal(ledger["epoch"], 0), ledger["kept"]))
    last = ledger.filter(pc.equal(ledger["epoch"], pc.max(ledger["epoch"])))
    trained = last.filter(pc.is_in(last["row"], first["row"].combine_chunks()))
    return {"chosen": pc.mean(trained["displacement"]).as_py(), "pairs": trained.num_rows}


def table(points: Points) -> str:
    """Markdown: one line a measure, one column a quantile."""
    quantiles = list(next(iter(points.values())))
    lines = [f"| measure | {' | '.join(f'{q:.0%}' for q in quantiles)} |", "|---" * (len(quantiles) + 1) + "|"]
    for measure, values in points.items():
        cells = [f"{statistics.mean(v):+.2f} ({min(v):+.2f} to {max(v):+.2f})" for v in values.values()]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _name(measure: str, quantile: float, seed: int) -> str:
    return f"{measure}_{quantile:.4g}_seed{seed}"
