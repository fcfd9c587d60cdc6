"""Prices: what a call costs, and where list prices come from."""
