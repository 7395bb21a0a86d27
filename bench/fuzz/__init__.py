"""Mutated notifications and webhooks against the running doors, and against the readers behind them."""
