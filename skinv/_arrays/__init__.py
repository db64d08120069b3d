"""What callers pass, and how they are answered: arrays, rows, messages, results."""
