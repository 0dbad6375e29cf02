"""The report in the formats that people and tools take, each a module over the same document.

:mod:`formats` names them and writes the files. The libraries they need come with the extra ``auditor`` and
are imported only where a format is asked for. None of them reads a clock: the same report gives the same
bytes. A signature over one is the exception (:mod:`signing`).
"""
