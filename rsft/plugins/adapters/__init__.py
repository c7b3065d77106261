"""Adapters of Hugging Face PEFT."""
