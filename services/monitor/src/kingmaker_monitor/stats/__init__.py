"""Statistics as pure functions of counts: no clock, no I/O, one idea a file."""
