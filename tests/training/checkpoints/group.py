"""One rank of a group that saves and loads checkpoints: ``python group.py RANK SIZE FOLDER TASK``.

What is in the tensors follows from their names, so that any group can tell whether it loaded them right.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from arriero.training.checkpoints import commit, writer
from arriero.training.checkpoints.ranks import Ranks
from arriero.training.checkpoints.retention import Retention
from arriero.training.checkpoints.store import CheckpointStore
from arriero.training.metrics import Totals
from arriero.training.saving import Saver
from arriero.training.settings import TrainSettings

SHAPES = {"even": (8, 6), "uneven": (5, 3), "few": (2, 7), "long": (13,), "deep": (3, 4, 5)}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def whole(name: str) -> torch.Tensor:
    """The values that belong to the name."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    return torch.randn(SHAPES[name], generator=generator)


def layout(kind: str, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """How a tensor is cut over the group."""
    if kind == "plain":
        return lambda tensor: tensor
    if kind in ("rows", "columns"):
        mesh = init_device_mesh("cpu", (size,))
        return lambda tensor: distribute_tensor(tensor, mesh, [Shard(_dim(tensor, kind == "columns"))])
    mesh = init_device_mesh("cpu", (2, size // 2))
    first: Any = Replicate() if kind == "replicas" else Shard(0)
    return lambda tensor: distribute_tensor(tensor, mesh, [first, Shard(_dim(tensor, kind == "grid"))])


def _dim(tensor: torch.Tensor, last: bool) -> int:
    return tensor.dim() - 1 if last else 0


def save(store: CheckpointStore, step: int, cut: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    tensors = {name: cut(whole(name)) for name in SHAPES} | {"count": torch.tensor(3.0)}
    ranks = Ranks()
    own = {f"rank-{ranks.rank:05d}.own": torch.tensor([ranks.rank])}
    saved = store.save(step, tensors | own, {"step": step}, {"rank": ranks.rank}, wait=False)
    for tensor in tensors.values():  # training goes on, and uses the group meanwhile
        (tensor.to_local() if isinstance(tensor, DTensor) else tensor).zero_()
    ranks.gather(step)
    store.settle()
    ranks.gather(None)
    return saved


def check(store: CheckpointStore, step: int, cut: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = store.open(step)
    assert not isinstance(found, str), found
    tensors = {name: cut(torch.zeros(shape)) for name, shape in SHAPES.items()} | {"count": torch.tensor(0.0)}
    store.load(found, tensors)
    for name in SHAPES:
        tensor = tensors[name]
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        assert torch.equal(full, whole(name)), f"{name} of step {step}"
    assert tensors["count"] == 3
    ranks = Ranks()
    if found.ranks == ranks.size:
        assert found.own == {"rank": ranks.rank}
        own = {f"rank-{ranks.rank:05d}.own": torch.tensor([99])}
        store.load(found, own)
        assert [tensor.item() for tensor in own.values()] == [ranks.rank]


def two(store: CheckpointStore) -> None:
    assert save(store, 1, layout("rows", 2)) and save(store, 2, layout("columns", 2))
    check(store, 1, layout("columns", 2))


def four(store: CheckpointStore) -> None:
    for step in (1, 2):
        check(store, step, layout("rows", 4))
        check(store, step, layout("grid", 4))
    assert save(store, 3, layout("grid", 4)) and save(store, 4, layout("replicas", 4))
    assert save(store, 5, layout("rows", 4))


def one(store: CheckpointStore) -> None:
    for step in (1, 2, 3, 4, 5):
        check(store, step, layout("plain", 1))
    assert save(store, 6, layout("plain", 1))


def two_again(store: CheckpointStore) -> None:
    for step in (1, 2, 3, 4, 5, 6):
        check(store, step, layout("rows", 2))
        check(store, step, layout("columns", 2))


def faults(store: CheckpointStore, folder: Path) -> None:
    """What goes wrong on the last rank is said once, by the first, and the one before stays."""
    ranks, cut = Ranks(), layout("rows", 2)
    real_write, real_sync = writer.write_tensors, commit.fsync_path

    def full(path: Path, *rest: Any) -> None:
        if ranks.rank:
            raise OSError(errno.ENOSPC, "No space left on device")
        (real_write if rest else real_sync)(path, *rest)

    assert save(store, 1, cut)
    writer.write_tensors = full
    assert not save(store, 2, cut)
    writer.write_tensors = real_write
    commit.fsync_path = full
    assert save(store, 3, cut), "nobody knows yet"
    commit.fsync_path = real_sync
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == ["checkpoint-00000001"]
    assert save(store, 4, cut)
    if ranks.first:
        path = folder / "checkpoint-00000004" / "rank-00001.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    ranks.gather(None)
    found = store.newest()
    assert found is not None and found.step == 1


class Context:
    """As much of a stage's context as a saver uses."""

    seed = 0

    def __init__(self, state: Path) -> None:
        self.state = state

    def say(self, line: str) -> None:
        say(line)


class Nothing:
    """An objective that carries nothing."""

    def carried(self) -> dict[str, torch.Tensor]:
        return {}

    def carry(self, tensors: dict[str, torch.Tensor]) -> None:
        assert not tensors


def trained(size: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A small model, cut over the group by FSDP, after a few steps of AdamW on the same data everywhere."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))
    if size > 1:
        mesh: DeviceMesh = init_device_mesh("cpu", (size,))
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model, optimizer)
    return model, optimizer


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    data = torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    model(data).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def saver_of(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Saver:
    settings = TrainSettings(keep_checkpoints=9)
    context: Any = Context(folder)
    objective: Any = Nothing()
    cpu = torch.device("cpu")
    return Saver(context, settings, dict(model.named_parameters()), optimizer, objective, cpu, lambda: "same")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.detach() for name, p in model.named_parameters()}
    return {name: (p.full_tensor() if isinstance(p, DTensor) else p).clone() for name, p in found.items()}


def sharded_training(folder: Path, at: int, size: int) -> None:
    """Go on from step ``at`` (0: from the start) under this group's layout, one step, and save."""
    model, optimizer = trained(size)
    saver = saver_of(folder, model, optimizer)
    totals = Totals(step=1)
    if at:
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        restored = saver.restore()
        assert restored is not None and restored.step == at
        step(model, optimizer)
        totals = Totals(step=at + 1)
    assert saver.save(totals, wait=True)
    full = weights(model)
    if Ranks().first:
        torch.save(full, folder / f"weights-{totals.step}.pt")


def main(rank: int, size: int, folder: Path, task: str) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/group-{task}", rank=rank, world_size=size
        )
    store = CheckpointStore(folder, Retention(9), say)
    if task == "faults":
        faults(store, folder)
    elif task.startswith("train"):
        sharded_training(folder, int(task.removeprefix("train")), size)
    else:
        {"two": two, "four": four, "one": one, "two_again": two_again}[task](store)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
