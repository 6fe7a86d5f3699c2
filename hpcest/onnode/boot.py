"""Where a node's Python enters: ``python -I -S -X utf8 …/onnode/boot.py controller|rank|signal ARGUMENTS``.

Isolated (-I -S), so that nothing of the user's environment reaches our own code; the copy of the
package that lies around this file is the one that is used.
"""

import os
import sys

RUNTIME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    """Run the part that the first argument names."""
    sys.path.insert(0, RUNTIME)
    if sys.argv[1] == "rank":
        from hpcest.onnode import rank

        rank.main(*sys.argv[2:])
    elif sys.argv[1] == "signal":
        from hpcest.onnode import signals

        signals.main(*sys.argv[2:])
    else:
        from hpcest.onnode import controller

        controller.main(*sys.argv[2:])


if __name__ == "__main__":
    main()
