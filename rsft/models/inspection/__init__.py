"""A bundle looked at: what it is, whether it is whole, how it differs from another."""
