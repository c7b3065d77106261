"""rsft: parameter-efficient fine-tuning for remote sensing."""

__version__ = "0.1.0"
