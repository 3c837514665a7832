"""Statistics as pure functions of counts: no clock, no I/O, one idea a file.

Bins lie along the last axis; any axes before it (features, windows, variants) are looked at in one call.
NaN stands for a number that does not exist, never 0. Formulas, sources and thresholds: docs/statistics.md.
"""
