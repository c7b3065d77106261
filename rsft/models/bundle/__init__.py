"""What a run leaves behind: everything that is needed to classify new chips, except the backbone itself."""
