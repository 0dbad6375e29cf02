"""Everything that touches the chain: the contracts, their client, the embedded chain."""
