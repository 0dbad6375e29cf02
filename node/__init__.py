"""A node: what a data owner or compute provider runs. Its gate is :func:`sealtrace.node.gate.run_task`."""
