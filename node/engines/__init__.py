"""Engines: given inputs, peers and a directory they return output and a transcript.

They know nothing of the chain. One killable process per job and party (:mod:`.party`), started and
watched by :func:`sealtrace.node.engines.process.run_job`.
"""
