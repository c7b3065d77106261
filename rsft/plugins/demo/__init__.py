"""The demonstration: simulated SAR images of ships, and a chip store of them."""
