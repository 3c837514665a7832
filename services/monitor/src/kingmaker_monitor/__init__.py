"""The monitor: turns logged predictions and delayed labels into evidence. It decides nothing."""
