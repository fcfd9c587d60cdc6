"""Limits, budgets, windows, purses: pure, time is an argument."""
