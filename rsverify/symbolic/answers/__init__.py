"""What a magnitude says: its leading power, the rule that keeps it, the regimes it passes through, and why."""
