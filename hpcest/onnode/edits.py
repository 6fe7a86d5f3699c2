"""What is said later of something that never changes itself (a version of a model, an experiment), as events.

Each process appends to a file of its own below ``events/``, with the lines of a run folder, so two that edit at once lose nothing.
"""

import os

from hpcest.onnode.record import EventWriter


def tagged(values):
    """The events that set tags; a value of None is an empty text."""
    return [{"e": "tag", "k": str(key), "v": "" if value is None else str(value)} for key, value in dict(values).items()]


def untagged(names):
    """The events that take tags away: one, or several."""
    return [{"e": "untag", "k": str(name)} for name in ([names] if isinstance(names, str) else names)]


def given(values):
    """The events that set properties, of which the first value stays."""
    return [{"e": "property", "k": str(key), "v": str(value)} for key, value in dict(values).items()]


def described(text):
    """The event that says what it is."""
    return [{"e": "description", "v": str(text)}]


def changed_tags(have, wanted):
    """The events after which ``wanted`` are the tags, and no others."""
    return untagged([name for name in have if name not in wanted]) + tagged(wanted)


def say(folder, *events):
    """Add events to what is kept in ``folder``, which is there. Raises OSError."""
    try:
        os.mkdir(os.path.join(folder, "events"))
    except FileExistsError:
        pass
    writer = EventWriter(folder, "user")
    for event in events:
        writer.event(event["e"], **{name: value for name, value in event.items() if name != "e"})
    kept = writer.flush()
    writer.close()
    if not kept:
        raise OSError("%s can't be written" % os.path.join(folder, "events"))
