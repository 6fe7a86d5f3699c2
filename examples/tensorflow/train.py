"""Train a small Keras model on all workers at once; each sees its share of the data, and all have the same weights."""

import argparse
import os
from tempfile import mkdtemp

import numpy as np
import tensorflow as tf

from hpcest import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch", type=int, default=64, help="points in a step, of all workers together")
args = parser.parse_args()

run = Run.get_context()
strategy = tf.distribute.MultiWorkerMirroredStrategy()  # reads TF_CONFIG; it has to come before anything else of TensorFlow's
worker = strategy.cluster_resolver.task_id or 0
steps = 1024 // args.batch


def spirals(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Points on two arms of a spiral, and which arm it is: the part of this worker."""
    random = np.random.default_rng(0)
    arm, turn = random.integers(0, 2, 1024), random.uniform(0.5, 3.5, 1024)
    x = np.stack([turn * np.cos(turn + np.pi * arm), turn * np.sin(turn + np.pi * arm)], axis=1) + random.normal(0, 0.1, (1024, 2))
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), arm.astype("float32")[:, None]))
    data = data.shard(context.num_input_pipelines, context.input_pipeline_id).shuffle(1024, seed=1)
    return data.repeat().batch(context.get_per_replica_batch_size(args.batch))


with strategy.scope():
    layers = [tf.keras.layers.Dense(32, activation="relu") for _ in range(2)]
    model = tf.keras.Sequential([tf.keras.Input((2,)), *layers, tf.keras.layers.Dense(1)])
    optimizer = tf.keras.optimizers.Adam(0.01)
epoch = tf.Variable(0)
checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, epoch=epoch)
if "HPCEST_CHECKPOINT" in os.environ:  # hpcest submit --resume-from RUN: the newest that it had written
    checkpoint.restore(os.environ["HPCEST_CHECKPOINT"]).expect_partial()
    print(f"goes on after epoch {int(epoch)}")


@tf.function
def step(batches: tf.data.Iterator) -> tf.Tensor:
    """The loss of one batch, after which the weights are better."""

    def on_this_worker(x: tf.Tensor, arm: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(arm, model(x, training=True))
            loss = tf.reduce_sum(losses) / args.batch
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
        return loss

    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(on_this_worker, args=next(batches)), axis=None)


batches = iter(strategy.distribute_datasets_from_function(spirals))
folder = "outputs" if worker == 0 else mkdtemp()  # all have to save, and one of them where it counts
manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
while int(epoch) < args.epochs:
    loss = float(sum(step(batches) for _ in range(steps)) / steps)
    epoch.assign_add(1)
    manager.save(checkpoint_number=int(epoch))
    if worker == 0:
        run.log("loss", loss, step=int(epoch))
        print(f"epoch {int(epoch)}: loss {loss:.4f} on {strategy.num_replicas_in_sync} workers")
if worker == 0:
    model.save("outputs/model.keras")
