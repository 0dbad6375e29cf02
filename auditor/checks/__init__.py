"""The checks, grouped by what they look at; :func:`catalogue` lists them all."""

from sealtrace.auditor.checks.registry import Check, Need, UnknownRule, catalogue, known_rule

__all__ = ["Check", "Need", "UnknownRule", "catalogue", "known_rule"]
