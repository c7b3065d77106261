"""Archives of published data sets: extraction, members, and the source tree of a build."""
