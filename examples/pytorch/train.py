"""Train a small network on two spirals: alone, in several processes, on several nodes, and on where another run has ended."""

import argparse
import math
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hpcest import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch", type=int, default=50, help="points in each step, of all processes together")
args = parser.parse_args()

dist.init_process_group(os.environ["HPCEST_BACKEND"])  # nccl where the run has GPUs, else gloo
rank, processes = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")


def spirals(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two spirals, and which one each belongs to."""
    turn = torch.rand(points).sqrt() * 1.5 * math.pi
    kind = torch.arange(points) % 2
    angle = turn + kind * math.pi
    place = torch.stack([turn * angle.cos(), turn * angle.sin()], dim=1) / 3 + 0.05 * torch.randn(points, 2)
    return place.to(device), kind.to(device)


torch.manual_seed(0)  # the same points everywhere; each process takes its part of them
x, y = spirals(2000)
x_test, y_test = spirals(1000)
network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)).to(
    device
)
first = 0
if "HPCEST_CHECKPOINT" in os.environ:  # hpcest submit --resume-from RUN: the newest that it had written
    saved = torch.load(os.environ["HPCEST_CHECKPOINT"], map_location=device)
    network.load_state_dict(saved["network"])
    first = saved["epoch"] + 1
    print("goes on after epoch", saved["epoch"])

model = DistributedDataParallel(network)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
run = Run.get_context()
for epoch in range(first, first + args.epochs):
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
    total = torch.zeros(1, device=device)
    for batch in order.split(args.batch):
        part = batch[rank::processes]
        loss = torch.nn.functional.cross_entropy(model(x[part]), y[part])
        optimizer.zero_grad()
        loss.backward()  # here all processes exchange their gradients
        optimizer.step()
        total += loss.detach() * len(part)
    dist.all_reduce(total)
    if rank == 0:
        run.log("loss", total.item() / len(x), step=epoch)
        print(f"epoch {epoch}: loss {total.item() / len(x):.4f}")
        torch.save({"network": network.state_dict(), "epoch": epoch}, "outputs/model.pt")

if rank == 0:
    right = (network(x_test).argmax(dim=1) == y_test).float().mean().item()
    run.log("accuracy", right)
    print(f"accuracy on points it had not seen: {right:.3f}")
dist.barrier()  # who leaves early can take the others' connections along
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # gloo's threads outlive the group: one that sees another process leave can abort a Python that is being taken down
