"""The gateway: one mutual-TLS port for peers, one loopback port for this node's own engines.

Engines open no port. They speak the interconnection transport to their own gateway, which forwards
to the peer's gateway, refuses what the chain does not authorise, binds every message to the
certificate it came with, and counts and digests all traffic.
"""
