"""The estimator of the framework ``template``."""

from hpcest import FrameworkEstimator


class Template(FrameworkEstimator):
    """Trains with the framework ``template``. ``threads`` is how many each process uses; by default one for each core."""

    framework = "template"
    own = ("threads",)
