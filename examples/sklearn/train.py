"""Find the best settings of a classifier for handwritten digits, on all the cores that the run was given."""

import os
import pickle
from pathlib import Path

from joblib import effective_n_jobs
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, train_test_split

from hpcest import Run

run = Run.get_context()
x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)

grid = {"n_estimators": [10, 40], "max_depth": [4, 12]}
search = GridSearchCV(RandomForestClassifier(random_state=0), grid, cv=3, n_jobs=-1)
search.fit(x_train, y_train)
for settings, accuracy in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    run.log_row("settings", accuracy=accuracy, **settings)
    print(f"{settings}: {accuracy:.3f}")

run.log("accuracy", search.score(x_test, y_test))
run.log("cores", effective_n_jobs(-1))
print(f"best: {search.best_params_}, found on {effective_n_jobs(-1)} of {os.cpu_count()} cores")
Path("outputs").mkdir(exist_ok=True)
Path("outputs/model.pkl").write_bytes(pickle.dumps(search.best_estimator_))
