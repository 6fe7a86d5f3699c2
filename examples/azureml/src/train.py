"""Learn to tell two clouds of points apart, in plain Python, as a script for Azure ML's SDK v1 does it."""

import argparse
import json
import math
import os
import random

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=0.5)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

run = Run.get_context()
process = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))  # as MPI numbers them; every process holds out another fifth
source = random.Random(7)
points = [[source.gauss(2 * label, 1.2), source.gauss(label, 1.2), label] for label in (0, 1) * 250]
held_out = points[process % 5 :: 5]
known = [point for number, point in enumerate(points) if number % 5 != process % 5]


def chance(x, y):
    """How likely a point is of the second cloud."""
    return 1 / (1 + math.exp(-(across * x + up * y + offset)))


across = up = offset = 0.0
for epoch in range(args.epochs):
    loss = to_right = to_top = to_all = 0.0
    for x, y, label in known:
        found = chance(x, y)
        loss -= math.log(found if label else 1 - found) / len(known)
        error = (found - label) / len(known)
        to_right, to_top, to_all = to_right + error * x, to_top + error * y, to_all + error
    across -= args.learning_rate * to_right
    up -= args.learning_rate * to_top
    offset -= args.learning_rate * to_all
    if process == 0:
        run.log("loss", loss, step=epoch)

right = sum((chance(x, y) > 0.5) == bool(label) for x, y, label in held_out)
run.log_row("folds", process=process, accuracy=right / len(held_out))
print(f"process {process}: {right} of {len(held_out)} points that it had not seen are right")
if process == 0:
    run.log("accuracy", right / len(held_out))
    run.tag("data", "two clouds")
    os.makedirs("outputs/model", exist_ok=True)
    with open("outputs/model/weights.json", "w") as file:
        json.dump([across, up, offset], file)
