"""The replay's rules, a part for each contract. They are the auditor's own: of the contracts' code nothing is
run, and of their storage nothing is read."""
