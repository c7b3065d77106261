"""The chip store: files and one manifest, the long tail, chips as tensors."""
