"""Training scripts for TensorFlow as its users write them; small, but nothing in them is hpcest's."""

#: The chief has workers fit four numbers that lie on a parameter server. Arguments: its exit code, and seconds that it stays.
PARAMETER_SERVERS = """\
import os, sys, time
import numpy as np
import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type in ("worker", "ps"):
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc", start=True
    )
    print("serves as", resolver.task_type, resolver.task_id, flush=True)
    server.join()

strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    weights = tf.Variable(tf.zeros([4, 1]))

def points():
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x @ np.array([[1.0], [2.0], [3.0], [4.0]], "float32"))).batch(32).repeat()

@tf.function
def step(iterator):
    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((x @ weights - y) ** 2)
        weights.assign_sub(0.1 * tape.gradient(loss, weights))
    strategy.run(replica, args=next(iterator))

iterator = iter(coordinator.create_per_worker_dataset(points))
for _ in range(60):
    coordinator.schedule(step, args=(iterator,))
coordinator.join()
print("on", weights.device.split("/")[1], weights.numpy().ravel().round(1).tolist(), flush=True)
time.sleep(float(sys.argv[2]))
print("chief", time.time(), flush=True)
sys.exit(int(sys.argv[1]))
"""

#: Keras' own fit() on all workers. Keras 3 can't do that; with TF_USE_LEGACY_KERAS=1 tf.keras is Keras 2, from tf-keras.
KERAS_FIT = """\
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
y = x @ np.array([[1.0], [2.0], [3.0], [4.0]], "float32")
with strategy.scope():
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(1)])
    model.compile(optimizer=tf.keras.optimizers.SGD(0.1), loss="mse")
model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(64).repeat(), epochs=2, steps_per_epoch=16, verbose=0)
print(strategy.num_replicas_in_sync, "workers", model.get_weights()[0].ravel().round(4).tolist())
"""

#: Goes on from the model that HPCEST_CHECKPOINT names, else begins with one; says how often it was trained.
KERAS_MODEL = """\
import os
import numpy as np
import keras

before = os.environ.get("HPCEST_CHECKPOINT", "")
if before:
    model = keras.models.load_model(before)
else:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
model.fit(x, x.sum(axis=1), batch_size=16, epochs=2, verbose=0)
os.makedirs("outputs", exist_ok=True)
model.save("outputs/model.keras")
print(os.path.basename(before), "steps", int(model.optimizer.iterations))
"""

#: TensorFlow's own messages: only errors.
QUIET = ("--env-var", "TF_CPP_MIN_LOG_LEVEL=2")
