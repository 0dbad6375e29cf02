"""For those who ask: write a task, submit it, watch it on the chain, open its result."""
