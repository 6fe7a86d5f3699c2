"""The estimator of the framework ``chainer``."""

from hpcest import FrameworkEstimator


class Chainer(FrameworkEstimator):
    """Trains with Chainer; with ``distributed_training=Mpi()`` ChainerMN's communicators have all processes of the run."""

    framework = "chainer"
