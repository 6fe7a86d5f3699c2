"""What a run can log. Nothing here stops a training: what can't be recorded is said once, and noted in the record."""

import contextlib
import json
import os
import time

from hpcest.onnode.record import warn
from hpcest.onnode.values import checked_name, column, scalar, several, spelt, step_of

# How long one text of the time serves for what is logged: to spell it takes as long as to write a line.
CLOCK_S = 0.0005


class Loggable:
    """The part of a run that logs metrics, tables, images and typed payloads.

    What is wrong with a name or a value is said on stderr, once for each name, and the record says it too; with
    HPCEST_STRICT_LOGGING=1 it raises.
    """

    id: str
    folder: str
    _clock = (0.0, "")  # a moment, and how a line starts that was logged then

    def _log_to(self, writer):
        """Where events go from now on."""
        self._writer = writer
        self._prefixes = {}

    def log(self, name, value, description="", step=None):
        """Log a scalar: a number or a text. The same name again makes a series.

        Numbers of NumPy, PyTorch, TensorFlow and the like are taken by their value.
        """
        try:
            try:
                start = self._prefixes[name]
            except (KeyError, TypeError):
                known = checked_name(name)
                start = self._prefixes[known] = ',"e":"metric","k":%s,"v":' % json.dumps(known)
            text = repr(value) if type(value) is float and value - value == 0.0 else spelt(name, value)
            if step is not None:
                text = f'{text},"s":{step if type(step) is int else step_of(step)!r}'
            now = time.time()
            since, clock = self._clock
            if not 0.0 <= now - since < CLOCK_S:
                clock = '{"t":%.4f' % now
                self._clock = now, clock
            self._writer.write(f"{clock}{start}{text}}}\n".encode())
        except Exception as error:
            self._refuse("log", name, error)

    def log_list(self, name, value, description=""):
        """Log a list, or anything that can be iterated over, as one metric."""
        self._event("log_list", "list", name, lambda known: several(known, value))

    def log_row(self, name, description=None, **kwargs):
        """Append one row, its columns given as keywords, to the table ``name``."""
        self._event("log_row", "row", name, lambda known: {key: scalar(key, item) for key, item in kwargs.items()})

    def log_table(self, name, value, description=""):
        """Log a table: a dict of columns (or a data frame), each a list of scalars or one scalar."""
        self._event("log_table", "table", name, lambda known: {str(key): column(key, items) for key, items in dict(value).items()})

    def log_image(self, name, path=None, plot=None, description=""):
        """Keep an image as an artifact: a file at ``path``, or a matplotlib figure (or pyplot) as ``plot``."""
        self._event("log_image", "image", name, lambda known: self._keep_image(known, path, plot))

    def log_confusion_matrix(self, name, value, description=""):
        """Keep a confusion matrix as an artifact: a dict with ``schema_type``, ``schema_version`` and ``data``, its JSON, or a path."""
        self._log_payload("confusion_matrix", name, value)

    def log_accuracy_table(self, name, value, description=""):
        """Keep an accuracy table as an artifact; ``value`` as in ``log_confusion_matrix``."""
        self._log_payload("accuracy_table", name, value)

    def log_residuals(self, name, value, description=""):
        """Keep residuals as an artifact; ``value`` as in ``log_confusion_matrix``."""
        self._log_payload("residuals", name, value)

    def log_predictions(self, name, value, description=""):
        """Keep predictions as an artifact; ``value`` as in ``log_confusion_matrix``."""
        self._log_payload("predictions", name, value)

    # ------------------------------------------------------------------ how
    def _log_payload(self, kind, name, value):
        self._event("log_" + kind, "image", name, lambda known: self._keep_payload(kind, known, value))

    def _keep_image(self, name, path, plot):
        from hpcest.onnode.payloads import keep_image

        return keep_image(self.folder, name, path, plot)

    def _keep_payload(self, kind, name, value):
        from hpcest.onnode.payloads import keep_payload

        return keep_payload(self.folder, kind, name, value)

    def _event(self, what, kind, name, value):
        """Write an event with the value that ``value(name)`` returns."""
        try:
            known = checked_name(name)
            self._writer.event(kind, k=known, v=value(known))
        except Exception as error:
            self._refuse(what, name, error)

    def _refuse(self, what, name, error):
        """Say once that something was not recorded, and why; the program goes on."""
        trouble = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)  # of the storage, which is not ours
        if os.environ.get("HPCEST_STRICT_LOGGING", "") not in ("", "0") and not trouble:
            raise error
        said = self.__dict__.setdefault("_refused", set())
        key = (what, repr(name)[:200])
        if key in said or len(said) > 1000:
            return
        said.add(key)
        message = "%s(%s) was not recorded: %s" % (what, key[1], str(error) or type(error).__name__)
        warn("run %s: %s" % (self.id, message))
        with contextlib.suppress(Exception):  # a run that was deleted meanwhile, say
            self._writer.event("trouble", m=message[:2000])
