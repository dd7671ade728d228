"""Order and batches: pure functions of seed, epoch and rows, the same on any number of processes."""

import pytest

from lit_pref.batch import Pair, collate
from lit_pref.data.splits import shared_prompts, split_positions
from lit_pref.order import PairBatches, epoch_order, pairs_per_step


def global_batches(world_size: int, batch_size: int, count: int = 23, epoch: int = 0) -> list[set[int]]:
    ranks = []
    for rank in range(world_size):
        order = PairBatches(range(count), batch_size, 7, rank, world_size)
        order.set_epoch(epoch)
        ranks.append(list(order))
    assert len({len(r) for r in ranks}) == 1, "every process makes the same number of calls"
    for batches in zip(*ranks, strict=True):
        assert len({len(share.positions) for share in batches}) == 1, "of the same batch size"
    return [
        {position for share in shares for position in share.positions[: share.counted]}
        for shares in zip(*ranks, strict=True)
    ]


@pytest.mark.parametrize("world_size", [2, 3, 4, 6])
def test_any_number_of_processes_sees_the_same_rows_in_the_same_order(world_size: int) -> None:
    assert global_batches(world_size, 12 // world_size) == global_batches(1, 12)


def test_every_row_is_seen_once_an_epoch() -> None:
    seen = sorted(position for share in PairBatches(range(23), 4, 7) for position in share.positions)
    assert seen == list(range(23))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert epoch_order(range(50), 1, 0) == epoch_order(range(50), 1, 0)
    assert len({tuple(epoch_order(range(50), s, e)) for s in (0, 1, 2) for e in (0, 1, 2)}) == 9


def test_without_a_seed_rows_stay_in_data_order() -> None:
    assert list(PairBatches([4, 2, 9], 2)) == [([4, 2], 2), ([9], 1)]


def test_pair_counts_and_steps_of_ragged_epochs() -> None:
    order = PairBatches(range(19), 4)
    assert order.pair_counts == [4, 4, 4, 4, 3]
    assert len(order) == 5
    assert [pairs_per_step(order.pair_counts, i, 3) for i in range(5)] == [12, 12, 12, 7, 7]
    assert PairBatches(range(19), 2, None, 1, 2).pair_counts == [4, 4, 4, 4, 3]


def test_splits_are_disjoint_complete_and_stable() -> None:
    train, val = split_positions(100, 0.2, 3)
    assert len(val) == 20
    assert sorted(train + val) == list(range(100))
    assert split_positions(100, 0.2, 3) == (train, val)
    assert split_positions(100, 0.2, 4)[1] != val
    assert len(split_positions(100, 7, 3)[1]) == 7
    assert split_positions(100, 0, 3)[1] == []
    assert len(split_positions(100, 1, 3)[1]) == 1
    assert len(split_positions(3, 0.1, 3)[1]) == 1
    assert split_positions(1, 0.1, 3)[1] == []


def test_shared_prompts_are_counted() -> None:
    train = [Pair(0, [1, 2], [3], [4]), Pair(1, [5], [3], [4])]
    assert shared_prompts(train, [Pair(2, [1, 2], [9], [8]), Pair(3, [1], [9], [8])]) == 1


def test_fillers_are_marked_not_guessed() -> None:
    shares = [next(iter(PairBatches([5], 2, None, rank, 2))) for rank in (0, 1)]
    assert shares == [([5], 1), ([5], 0)]
    batch = collate([Pair(4, [1], [2], [3], 1.0, 2.0), Pair(4, [1], [2], [3], 1.0, 2.0)], 1)
    assert batch.size == 2
    assert batch.rows.tolist() == [4]
    assert batch.rewards is not None
    assert batch.rewards.tolist() == [[1.0], [2.0]]
