"""Data on a node: put in place before the ranks start, seen by the program as paths, and taken away when they have ended."""
