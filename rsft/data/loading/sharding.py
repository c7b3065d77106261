"""The chips of a batch that each of several processes takes, and the weight of its loss."""

from __future__ import annotations

from rsft.types import Indices

ProcessShard = tuple[int, int]
"""Rank of a process, and the number of processes (world size)."""

SINGLE_PROCESS: ProcessShard = (0, 1)


def shard_batches(indices: Indices, batch_size: int, shard: ProcessShard = SINGLE_PROCESS) -> list[Indices]:
    """Cut `indices` into batches, and return the part of each batch that one process takes.

    Process r of n takes the chips r, r + n, r + 2n ... of a batch. If the last batch has fewer chips than processes,
    the others take its first chip with weight 0 (`shard_loss_weight`).

    Args:
        indices: order of the chips, over all processes.
        batch_size: chips per batch, over all processes.
        shard: rank and number of processes.

    Returns:
        Indices of this process, batch by batch.
    """
    rank, world_size = shard
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    return [batch[rank::world_size] if rank < len(batch) else batch[:1] for batch in batches]


def shard_loss_weight(size: int, shard: ProcessShard) -> float:
    """Return the weight of a process's mean loss.

    With it, the mean of the weighted losses over all processes is the mean loss over all chips of the batch.

    Args:
        size: chips in the batch, over all processes.
        shard: rank and number of processes.
    """
    rank, world_size = shard
    return len(range(rank, size, world_size)) * world_size / max(size, 1)
