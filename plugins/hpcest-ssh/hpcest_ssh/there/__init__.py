"""What runs on the other machine: sent there with every call, standard library only, Python 3.8.

``serve`` answers one request, ``runs`` knows what has become of a run, ``queue`` starts controllers, ``files`` takes and
sends files, ``processes`` tells who is still alive.
"""
