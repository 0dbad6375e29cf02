"""``python -m sealtrace.contracts.embedded``."""

from .cli import app

app(prog_name="sealtrace chain")
