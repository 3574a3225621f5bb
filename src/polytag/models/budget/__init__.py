"""Time budgets: measure this machine's speed, and choose what to train within a number of minutes."""
