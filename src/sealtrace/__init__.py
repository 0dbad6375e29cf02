"""Sealtrace: a blockchain-audited privacy computing network.

The packages in dependency order: ``protocol``, ``contracts``, ``algorithms``, then ``node``,
``scheduler``, ``auditor`` and ``requester`` side by side, and ``deploy`` last.
"""

__version__ = "0.1.0"
