"""Many configurations in one pass: where their factors lie, how they are stepped, on which workers and in how much memory."""
