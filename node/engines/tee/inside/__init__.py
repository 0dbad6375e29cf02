"""What runs beside an algorithm in the sandbox, as package ``sealtrace_tee``: standard library only.

Where a bundle's lock names numpy and pyarrow, ``columns`` reads large tables by them; nothing needs them.

It imports nothing of the outside; the outside takes from here what both call by one name.
"""

DESCRIPTORS = "SEALTRACE_DESCRIPTORS"
"""The variable that tells the measured command its descriptors."""
JOB = "job"
"""The input that describes the run; the others are tables and models."""
