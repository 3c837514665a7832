"""`python -m kingmaker` is the `kingmaker` command."""

from kingmaker.cli import main

main()
