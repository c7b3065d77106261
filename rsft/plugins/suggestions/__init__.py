"""Suggest which chips an analyst should label or check next."""
