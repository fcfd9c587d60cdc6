"""Headgate: an LLM gateway."""
