"""Attestation: what a TEE says of itself, whether that is genuine, and whether a data owner accepts it.

Three steps, each a pure function of its arguments, judged at a given time and never at the clock:
:func:`~sealtrace.protocol.attestation.verification.verify` (is it genuine?),
:func:`~sealtrace.protocol.attestation.appraisal.appraise` (does the owner's policy take it?) and
:func:`~sealtrace.protocol.attestation.results.sign_result` (an EAR that others can read).
The checks of each kind, their sources and what is not checked: docs/attestation.md.
"""
