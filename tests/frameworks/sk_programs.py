"""A program for scikit-learn's environment that shows how many cores it uses."""

from __future__ import annotations

import json
from typing import Any

#: Prints what joblib takes for the number of cores, what the kernel allows, and the threads of each process that worked.
CORES = """\
import json, os, time
import joblib
import numpy as np
from joblib.externals.loky import cpu_count
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV

class Watched(HistGradientBoostingClassifier):
    def fit(self, x, y):
        matrix = np.ones((1500, 1500))
        matrix @ matrix  # BLAS; what follows is OpenMP
        super().fit(x, y)
        time.sleep(0.1)
        with open(f"threads.{os.getpid()}", "w") as file:
            file.write(str(len(os.listdir("/proc/self/task"))))
        return self

x, y = make_classification(300, random_state=0)
GridSearchCV(Watched(max_iter=5), {"max_depth": [1, 2, 3, 4]}, cv=2, n_jobs=-1, refit=False).fit(x, y)
threads = {name: int(open(name).read()) for name in os.listdir() if name.startswith("threads.")}
allowed = len(os.sched_getaffinity(0))
print(json.dumps({"cpu_count": cpu_count(), "n_jobs": joblib.effective_n_jobs(-1), "allowed": allowed, "threads": threads}))
"""


def used(output: str) -> dict[str, Any]:
    """What the program found."""
    assert output, "it printed nothing"
    known: dict[str, Any] = json.loads(output.splitlines()[-1])
    return known
