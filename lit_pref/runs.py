"""The folder that a run writes to: one a run, never shared. Knows nothing about what is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from .errors import SetupError

#: Hands the folder of the first process to the processes that it starts.
VARIABLE = "LIT_PREF_RUN_DIR"


@dataclass
class RunFolder:
    """Where a run's files go: ROOT/NAME/version_0, version_1, ...

    Attributes:
        root: folder of all runs.
        name: name of the experiment; runs of one name lie side by side in TensorBoard.
    """

    root: str = "runs"
    name: str = "default"

    def claim(self) -> Path:
        """Make a folder that no other run has; processes other than the first share the first one's.

        Raises:
            SetupError: the folder cannot be made.
        """
        if getattr(rank_zero_only, "rank", 0) not in (0, None):
            return Path(os.environ.get(VARIABLE, Path(self.root) / self.name))
        base = Path(self.root).expanduser() / self.name
        number = 0
        while True:
            folder = base / f"version_{number}"
            try:
                base.mkdir(parents=True, exist_ok=True)
                folder.mkdir()  # atomic: of two runs started at once, one gets the folder
            except FileExistsError:
                number += 1
            except OSError as error:
                raise SetupError(
                    f"{folder}: the run's folder cannot be made ({error.strerror}).\n"
                    "  Fix: set run.root to a folder that can be written to."
                ) from error
            else:
                os.environ[VARIABLE] = str(folder)
                return folder
