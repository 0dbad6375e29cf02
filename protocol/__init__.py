"""What parties must agree on: pure functions and frozen values, without I/O, clock or randomness."""
