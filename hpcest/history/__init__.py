"""The history: an SQLite index over run folders, in which runs are listed, searched and found by name.

The run folders are the truth; everything here can be deleted and built again from them. ``ingest``
brings the index up to date, ``query`` and ``resolve`` read it, ``edits`` announces what a process on
the login side adds to a run that ended long ago.
"""
