"""Objectives that estimate one number from all pairs of a step: two processes see what one process sees."""

import ast
import subprocess
import sys
from pathlib import Path

import torch

from objectives import BCO, KTO, PairScores, SequenceScores

ROOT = Path(__file__).resolve().parents[1]
LOG_RATIOS = [3.0, -1.0, 4.0], [0.5, 2.0, -6.0]
MISMATCHED = [2.0, 7.0, 1.0], [-1.0, 3.0, 0.5]
SHARES = [0, 1], [2]  # ragged on purpose: a mean of means would differ

CODE = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
from test_objective_processes import SHARES, losses
print([losses(SHARES[rank]), losses([0, 1] if rank == 0 else [])])
dist.destroy_process_group()
"""


def scores(columns: tuple[list[float], list[float]], rows: list[int]) -> PairScores:
    chosen, rejected = (torch.tensor([column[i] for i in rows]) for column in columns)
    lengths = torch.ones(len(rows), dtype=torch.int64)
    return PairScores(SequenceScores(chosen, lengths), SequenceScores(rejected, lengths))


def losses(rows: list[int]) -> list[list[float]]:
    """Losses of BCO and KTO on the pairs of some rows, against a reference of log-probability 0."""
    zeros = ([0.0] * 3, [0.0] * 3)
    policy, reference = scores(LOG_RATIOS, rows), scores(zeros, rows)
    policy = policy._replace(mismatched=scores(MISMATCHED, rows))
    reference = reference._replace(mismatched=scores(zeros, rows))
    return [objective(policy, reference).losses.tolist() for objective in (BCO(0.5), KTO(0.5))]


def test_two_processes_share_bcos_shift_and_ktos_kl(tmp_path: Path) -> None:
    code = CODE.format(tests=str(ROOT / "tests"))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path / "store")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    shared = [ast.literal_eval(out.splitlines()[-1]) for out, _ in outputs]
    together = [[*a, *b] for a, b in zip(shared[0][0], shared[1][0], strict=True)]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(losses([0, 1, 2])))
    alone = [[*a, *b] for a, b in zip(losses([0, 1]), losses([2]), strict=True)]
    assert not torch.allclose(torch.tensor(together), torch.tensor(alone), rtol=1e-3)
    # A process without a pair, as at the end of an epoch, changes nothing.
    assert shared[1][1] == [[], []]
    torch.testing.assert_close(torch.tensor(shared[0][1]), torch.tensor(losses([0, 1])))
