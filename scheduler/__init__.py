"""Introduces parties to each other, carries sealed outputs, watches deadlines; can open nothing."""
