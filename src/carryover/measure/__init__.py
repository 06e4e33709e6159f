"""Measures: how good, how alike, how sure, and whether two sets of results differ."""
