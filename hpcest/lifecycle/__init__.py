"""The life of a run on the login side: snapshot, prepare, submit, watch, collect."""
