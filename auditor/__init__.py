"""Replay the chain, compare what nodes recorded, and say what does not fit. Trusts none of them.

Reading (:mod:`rpc`, :mod:`headers`, :mod:`decoding`, :mod:`evidence`) comes first; replay and the checks
are pure functions over what was read, so the same range gives the same report, byte for byte.
"""
