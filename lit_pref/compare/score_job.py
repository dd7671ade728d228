"""The process that scores the validation pairs under an initial policy, once for all arms that share both."""

from pathlib import Path
from typing import Any

import yaml

from ..experiments.failure import Failure
from ..experiments.stages import digest
from ..whole_file import write_text
from .inputs import Inputs
from .jobs import Job
from .planned_arm import PlannedArm

#: Parts of a configuration that ``lit-pref score`` has too.
PARTS = ("seed_everything", "model", "data", "trainer", "run")


class ScoreJob(Job):
    """Runs ``lit-pref score``.

    Args:
        arm: one of the arms that share the scores.
        inputs: what it reads.
        folder: of all scores.
    """

    def __init__(self, arm: PlannedArm, inputs: Inputs, folder: Path) -> None:
        data = validation_of(arm.config["data"])
        self.asked = {**{part: arm.config[part] for part in PARTS}, "data": data}
        name = digest([inputs.policy, inputs.val, data, arm.config["model"]["policy"]])
        self.out = folder / f"{name}.parquet"
        super().__init__(f"similarity scores of seed {arm.seed}", self.out.with_suffix(".log"))
        if self.out.exists():  # it is written whole, and named by what it is of
            self.state = "done"

    @property
    def config(self) -> Path:
        return self.out.with_suffix(".yaml")

    @property
    def words(self) -> list[str]:
        """Words of ``lit-pref``."""
        return ["score", "--config", str(self.config), "--out", str(self.out), "--overwrite", "true"]

    def write(self) -> None:
        """Put the configuration beside the scores."""
        write_text(self.config, yaml.safe_dump(self.asked, sort_keys=False, allow_unicode=True))

    def arguments(self) -> list[str]:
        self.write()
        return self.words

    def ended(self, code: int) -> bool:
        self.state = "done" if code == 0 else "failed"
        self.failure = Failure.of(code, self.log) if code else None
        return False


def validation_of(data: dict[str, Any]) -> dict[str, Any]:
    """The data of a configuration, of which ``path`` holds the validation pairs, and nothing chooses among them."""
    source = {} if data["val_path"] is None else {"path": data["val_path"], "split": data["val_split"]}
    return {**data, **source, "val_path": None, "test_path": None, "kept_rows": None, "selection": None}
