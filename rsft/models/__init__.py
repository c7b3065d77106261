"""The classifier and what belongs to it: bundle, averaging, contract, uncertainty, inspection."""
