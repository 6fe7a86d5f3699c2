"""What runs on the nodes: standard library only, Python 3.8 syntax, nothing from the rest of hpcest.

A copy of this folder travels with every run and is first on the program's PYTHONPATH.
"""
