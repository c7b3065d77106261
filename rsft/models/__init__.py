"""The classifier, its bundle and contract, averages of classifiers, uncertainty, and inspection of bundles."""
