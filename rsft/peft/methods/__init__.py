"""Methods of parameter-efficient fine-tuning, one class each."""
