"""The checks, grouped by what they look at; :func:`catalogue` lists them all."""

from sealtrace.auditor.checks.registry import Check, Need, catalogue

__all__ = ["Check", "Need", "catalogue"]
