"""Builders that turn published data sets into chip stores, one module per data set."""
