"""Tuners of Hugging Face PEFT on networks of timm."""
