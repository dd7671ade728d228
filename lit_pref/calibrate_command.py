"""The command ``lit-pref calibrate``: keys and YAML files in, a report out. Knows nothing of how it is made."""

from .calibrated_judges import CalibratedJudges
from .command_end import plain_end
from .judge_parser import JudgeParser

USAGE = "--judges CLASS ... [--rows FILE] [--out FOLDER] [--config FILE ...] [--KEY VALUE ...]"
SUMMARY = (
    "Measure judges on responses with known labels: kappa, sensitivity, specificity, and where they err. By default on "
    "200 rows that are shipped."
)


class Parser(JudgeParser):
    """Keys of ``lit-pref calibrate``."""

    command = "calibrate"


def run(args: list[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    made = Parser.of(CalibratedJudges, SUMMARY, USAGE)
    options = made.read(args)
    with plain_end("Interrupted. What is judged is kept; the same command goes on from there."):
        CalibratedJudges(**made.made(options)).write()
