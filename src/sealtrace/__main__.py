"""``python -m sealtrace`` is the ``sealtrace`` command."""

from sealtrace.cli import main

main()
