"""Kingmaker beside its peers on one machine, in one run: `make bench`, `make bench-quick`.

Absolute figures belong to the machine they were taken on; ratios from one run are what is claimed. Every
server process of a stack shares one core and the load generator has the other, for every stack alike.
"""
