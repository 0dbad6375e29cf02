"""The TEE engine's parts: a measured command in a sandbox, attesters, and memory that can be wiped."""
