"""Small things with I/O that every layer may use: the checkout, the clock, commands, progress."""
