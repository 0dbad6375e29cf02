"""What runs beside an algorithm in the sandbox, as package ``sealtrace_tee``: standard library only."""
