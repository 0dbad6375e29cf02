"""The replay's rules, a part for each contract. They are written from the manual, not from the Solidity."""
