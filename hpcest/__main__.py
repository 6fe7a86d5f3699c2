"""``python -m hpcest`` is the ``hpcest`` command."""

from hpcest.cli.main import main

if __name__ == "__main__":
    main()
