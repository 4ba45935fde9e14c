"""Attacks on the gate: what the attacker gets, what an honest client beside it notices, and what is left behind."""
