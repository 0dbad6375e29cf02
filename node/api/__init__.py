"""The node's REST API: what an operator's own systems ask of the node. Peers and schedulers never call it."""
