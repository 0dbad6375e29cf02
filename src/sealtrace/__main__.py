"""``python -m sealtrace`` is the ``sealtrace`` command."""

from sealtrace.cli import main

if __name__ == "__main__":
    main()
