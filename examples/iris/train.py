"""Train a classifier on the iris flowers, and log what matters."""

import argparse
import os
import pickle

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from hpcest import Run

parser = argparse.ArgumentParser()
parser.add_argument("--regularization", type=float, default=1.0)
parser.add_argument("--epochs", type=int, default=20)
args = parser.parse_args()

run = Run.get_context()
x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)

model = LogisticRegression(C=1.0 / args.regularization, max_iter=1, warm_start=True)
os.makedirs("logs", exist_ok=True)
with open("logs/training.txt", "w") as log:
    for epoch in range(args.epochs):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one step of the solver at a time does not converge, on purpose
            model.fit(x_train, y_train)
        loss = log_loss(y_train, model.predict_proba(x_train))
        run.log("loss", loss, step=epoch)
        print(f"epoch {epoch:2d}: loss {loss:.4f}")
        print(f"{epoch},{loss}", file=log, flush=True)

accuracy = accuracy_score(y_test, model.predict(x_test))
run.log("accuracy", accuracy)
run.tag("data", "iris")
print(f"accuracy on {len(y_test)} flowers it had not seen: {accuracy:.3f}")

os.makedirs("outputs", exist_ok=True)
with open("outputs/model.pkl", "wb") as file:
    pickle.dump(model, file)
