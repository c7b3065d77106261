"""Labels that people give to classified chips, and the chips that belong to them."""
