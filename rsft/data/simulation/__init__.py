"""Simulated ships, as radar and optical sensors see them."""
