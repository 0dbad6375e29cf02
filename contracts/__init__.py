"""Everything that touches the chain: the contracts, the client that reads and writes them, the embedded chain."""
