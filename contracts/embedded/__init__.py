"""A small chain of our own: one producer on py-evm, its state in SQLite, behind JSON-RPC.

For demonstrations, trials and end-to-end tests. One process holds the directory and makes the
blocks; everybody else is an ordinary client of its JSON-RPC. Whoever has the genesis file can
execute every block again (:mod:`sealtrace.contracts.embedded.verify`). One producer means one
operator: its chain is tamper-evident only where others keep heads they saw.

The network asks no fee. EIP-1559 lowers or keeps the base fee while a block uses no more than
half of its gas limit, and the genesis base fee is 0; the producer never fills a block beyond
that half, so 0 stays 0 under the unchanged rule and accounts need no funds.
"""
