"""The torch modules that PEFT methods add to a network."""
