"""What the bundles of joint models have in common: readers, encodings and pure functions on shares."""
