"""Registered models: where they lie in a workspace, how a version comes to be there, and what is said of one later.

    .hpcest/models/NAME/VERSION/model.json     name, version, where it came from, tags
    .hpcest/models/NAME/VERSION/data/…         the file or folder itself
    .hpcest/models/NAME/VERSION/events/…       tags, properties and descriptions that were given later
    .hpcest/models/NAME/VERSION.deleted        the number was given, and is not given again; holds the key of that version
    .hpcest/models/NAME/events/…               tags, description and aliases of the model, whatever its versions
    .hpcest/models/NAME/.new-…                 a version that is being written, .gone-… one that is being removed

A version appears whole or not at all: it is written beside and renamed to the first free number, so two registrations at
once get two versions and an interrupted one leaves none. Later words are events with the lines of a run folder, each
process's in a file of its own, so two that edit at once lose nothing.
"""

import os
import shutil
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from hpcest.onnode import versions as numbered
from hpcest.onnode.copying import Refused, clone, copy_whole
from hpcest.onnode.edits import changed_tags, described, given, say, tagged, untagged
from hpcest.onnode.events import event_files, read_events
from hpcest.onnode.processes import alive, identity
from hpcest.onnode.record import get_json, put_json, warn
from hpcest.onnode.state import RunState

_LONGEST = 200  # bytes of a folder's name, with room for what is put before and after it


# ---------------------------------------------------------------------- where they lie
def of_run(folder):
    """The registry of the workspace that a run folder belongs to."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(folder))), "models")


def checked_name(name):
    """``name``, if a model can be called so. Raises Refused."""
    usable = isinstance(name, str) and name.isprintable() and name == name.strip() and ":" not in name
    if not usable or not 0 < len(numbered.folder_name(name)) <= _LONGEST:
        raise Refused("%r can't be the name of a model" % (name,), "use up to 200 letters, digits and marks, without ':' and line breaks")
    return name


def home(models, name):
    """The folder of all versions of a model; it never leaves the registry ``models``, whatever the name."""
    return os.path.join(models, numbered.folder_name(name))


def version_folder(models, name, version):
    """The folder of one version, whether it is there or not."""
    return os.path.join(home(models, name), str(version))


def versions(models, name):
    """The versions of a model, lowest first."""
    return numbered.numbers(home(models, name))


def names(models):
    """The names of all models that have a version, sorted."""
    return [name for name in numbered.names(models) if versions(models, name)]


# ---------------------------------------------------------------------- registering and deleting
def register(models, name, source, facts, root=None, put=clone):
    """Take ``source`` into the registry as the next version of ``name``, by ``put`` for each file; returns its number.

    With ``root`` no link of it may lead out of there. Raises Refused for a name that can't be and for what can't be
    copied whole, OSError.
    """
    source, folder = Path(source), home(models, checked_name(name))
    if not source.exists():
        raise Refused("there is no file or folder %r to register as a model" % str(source))
    file = (source.resolve().name if source.name in ("", "..") else source.name) or "model"
    beside = os.path.join(folder, ".new-" + uuid.uuid4().hex)
    try:
        os.makedirs(os.path.join(beside, "data"))
        put_json(os.path.join(beside, numbered.OWNER), identity())
        _sweep(folder)
        copy_whole(source, Path(beside, "data", file), None if root is None else Path(root), put)
        return numbered.publish(beside, dict({"name": name, "created": time.time(), "file": file}, **facts))
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sweep(folder):
    """Remove what registrations and deletions left that are known to have been killed."""
    for entry in os.listdir(folder):
        path = os.path.join(folder, entry)
        owner = get_json(os.path.join(path, numbered.OWNER)) if entry.startswith(".new-") else None
        if entry.startswith(".gone-") or (isinstance(owner, dict) and alive(owner) is False):
            shutil.rmtree(path, ignore_errors=True)


def delete(models, name, version):
    """Remove one version for good; its number is not given again. Raises OSError: FileNotFoundError where it is gone already."""
    folder = version_folder(models, name, version)
    if not os.path.isdir(folder):
        raise FileNotFoundError(2, os.strerror(2), folder)
    gone = os.path.join(home(models, name), ".gone-" + uuid.uuid4().hex)
    key = (get_json(os.path.join(folder, "model.json")) or {}).get("key") or ""
    with open(folder + ".deleted", "a") as stream:  # first: a number that is free would be given again
        stream.write(str(key))
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def facts_of(models, name, version):
    """What was written of one version when it was registered; None where there is none, or a damaged one."""
    facts = get_json(os.path.join(version_folder(models, name, version), "model.json"))
    return facts if isinstance(facts, dict) and isinstance(facts.get("file"), str) else None


def made_of(folder):
    """The code, the environment and the data of the run in ``folder``: what a model of it was made of."""
    spec = (get_json(os.path.join(folder, "run.json")) or {}).get("spec") or {}
    data = {name: facts for name, facts in (spec.get("data") or {}).items() if isinstance(facts, dict)}
    return {
        "snapshot": spec.get("snapshot") or "",
        "environment": (get_json(os.path.join(folder, "environment.lock")) or {}).get("key") or "",
        "data": {
            name: "%s:%s" % (facts["dataset"], facts.get("version", 0)) if facts.get("dataset") else facts.get("digest", "")
            for name, facts in data.items()
        },
    }


def by_run(facts, folder, key):
    """``facts`` of a version that the run in ``folder`` has made, and that is to be known by ``key``: see ``has_key``."""
    return dict(facts, run_id=os.path.basename(folder), key=key, made=made_of(folder))


# ---------------------------------------------------------------------- what a run asks for
def ask(run, name, path, facts):
    """Record in ``run`` that its artifact ``path`` is to be registered; returns the key that the version has to have.

    Whoever collects the run registers what has no version with its key by then: the workspace may not be on this
    machine, the registry can't be written now, or the program is killed meanwhile.
    """
    key = uuid.uuid4().hex
    run._writer.event("model", k=key, v=dict(facts, name=name, path=path))
    return key


def register_asked(run, name, artifact, path, facts):
    """``register`` for ``path``, which is the artifact ``artifact`` of ``run``, once the record asks for it."""
    models, key = of_run(run.folder), ask(run, checked_name(name), artifact, facts)
    try:
        return register(models, name, path, dict(facts, key=key), run.folder)
    except Refused:
        run._writer.event("model", k=key)  # taken back: nobody can
        raise


def register_of(run, name, artifact, path, facts):
    """Register ``path``, which is the artifact ``artifact`` of ``run``, now or when the run is collected; returns a Version."""
    facts, models = dict(facts, run_id=run.id, made=made_of(run.folder)), of_run(run.folder)
    try:
        version = register_asked(run, name, artifact, path, facts)
        return Version(version_folder(models, name, version), facts_of(models, name, version) or dict(facts, name=name, version=version))
    except OSError as error:
        warn(
            "run %s: the model %r can't be registered in %s now, but will be when the run is collected: %s" % (run.id, name, models, error)
        )
        return Version(path, dict(facts, name=name))


def facts(tags=None, properties=None, description=None, datasets=None, framework=(None, None)):
    """What is said of a version when it is registered, as it is written. ``framework`` is a name and a version."""
    return {
        "description": str(description or ""),
        "tags": {str(key): "" if value is None else str(value) for key, value in dict(tags or {}).items()},
        "properties": {str(key): str(value) for key, value in dict(properties or {}).items()},
        "framework": str(framework[0] or ""),
        "framework_version": str(framework[1] or ""),
        "datasets": [[str(word), told(dataset)] for word, dataset in datasets or ()],
    }


def told(dataset):
    """A dataset as the record of a model names it: by its id, or what it was made of."""
    dataset = getattr(dataset, "dataset", dataset)  # of one that a run reads
    return str(getattr(dataset, "id", None) or getattr(dataset, "digest", "") or dataset)


def has_key(models, name, key):
    """Whether a version of the model has, or had, the key."""
    folder = home(models, name)
    for number in numbered.numbers(folder):
        if (get_json(os.path.join(folder, str(number), "model.json")) or {}).get("key") == key:
            return True
    for number in numbered.numbers(folder, ".deleted"):
        try:
            with open(os.path.join(folder, "%d.deleted" % number)) as stream:
                if key in stream.read():
                    return True
        except OSError:
            continue
    return False


# ---------------------------------------------------------------------- what is said later
class Later(RunState):
    """What the events of a model, or of a version of one, add up to.

    ``aliases``: name → [time, version or None]. ``created``: when a model without versions was, None where it was not.
    """

    def __init__(self):
        super().__init__()
        self.aliases = {}
        self._created = [0.0, False]

    @property
    def created(self):
        return self._created[0] if self._created[1] else None

    def _on_created(self, event, when, writer):
        self._created = max(self._created, [when, event.get("v") is not False])

    def _on_alias(self, event, when, writer):
        version = event.get("v")
        self._newest("aliases", event.get("k"), version if type(version) is int else None, (when, writer))


def later(folder):
    """What was said later of the version, or the model, in ``folder``."""
    found = Later()
    for path in event_files(folder):
        try:
            events = read_events(path)[0]
        except OSError:
            continue  # deleted between the listing and now
        for event in events:
            found.apply(event, os.path.basename(path))
    return found


def merged(facts, said):
    """``facts`` with what was said later: a dict whose ``tags``, ``properties`` and ``description`` hold now."""
    tags = dict(facts.get("tags") or {})
    for name, (_, value) in said.tags.items():
        tags[name] = value
    changed = said.names.get("description")
    return dict(
        facts,
        tags={name: value for name, value in tags.items() if value is not None},
        properties=dict({name: value for name, (_, value) in said.properties.items()}, **(facts.get("properties") or {})),
        description=str(changed[1] if changed else facts.get("description") or ""),
    )


class Version:
    """A version of a registered model, as the program that registered it sees it.

    ``version`` is 0 where it could not be registered yet; it will be when the run is collected, and what is changed
    of it meanwhile is not kept. Trouble of the storage never raises.
    """

    def __init__(self, folder, facts):
        self.folder, self._facts = folder, facts
        self.name, self.version = facts["name"], int(facts.get("version") or 0)
        self.id = "%s:%d" % (self.name, self.version)
        self.path = os.path.join(folder, "data", facts.get("file", "")) if self.version else folder
        self.url = Path(os.path.abspath(self.path)).as_uri()
        self.created_time = datetime.fromtimestamp(float(facts.get("created") or 0.0), timezone.utc)
        self.run_id = facts.get("run_id") or ""
        self.framework, self.framework_version = facts.get("framework") or "", facts.get("framework_version") or ""

    def _now(self):
        return merged(self._facts, later(self.folder) if self.version else Later())

    @property
    def tags(self):
        return self._now()["tags"]

    @property
    def properties(self):
        return self._now()["properties"]

    @property
    def description(self):
        return self._now()["description"]

    def add_tags(self, tags):
        """Set tags; those that are there get the new value."""
        self._add(tagged(tags))

    def remove_tags(self, tags):
        """Take tags away: one, or several."""
        self._add(untagged(tags))

    def add_properties(self, properties):
        """Set properties. A property is written once: a second value for it is ignored."""
        self._add(given(properties))

    def update_tags_properties(self, add_tags=None, remove_tags=None, add_properties=None):
        """All three at once."""
        self._add(tagged(add_tags or {}) + untagged(remove_tags or ()) + given(add_properties or {}))

    def update(self, tags=None, description=None, **ignored):
        """Have these tags, and no others, and this description; what is None stays."""
        events = described(description) if description is not None else []
        self._add(events + (changed_tags(self.tags, tags) if tags is not None else []))

    def _add(self, events):
        try:
            if self.version and events:
                say(self.folder, *events)
        except OSError as error:
            warn("the model %s can't be changed: %s" % (self.id, error))

    def serialize(self):
        """All that is known of it."""
        return dict(self._now(), id=self.id, path=self.path)

    def __repr__(self):
        return "Model(name=%r, version=%d)" % (self.name, self.version)
