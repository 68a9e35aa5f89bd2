"""``python -m chembench.cli`` is the ``chembench`` command."""

from chembench.cli import main

if __name__ == "__main__":
    main()
