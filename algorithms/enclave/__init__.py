"""What TEE algorithms share: joins, feature steps, measures. Runs in the sandbox, on numpy alone."""
