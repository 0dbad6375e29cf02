"""``python -m sealtrace.contracts.embedded``."""

from .cli import app

if __name__ == "__main__":  # reader processes import this module under another name
    app(prog_name="sealtrace chain")
