"""A framework plugin for hpcest, to copy. Commands of hpcest import ``framework``, users import ``estimator``."""
