"""Small tools without an idea of runs: files, processes, YAML with line numbers, dataclasses as JSON."""
