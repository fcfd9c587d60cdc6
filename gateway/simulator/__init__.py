"""A simulated provider: speaks OpenAI's API over real HTTP, fails on demand and keeps its own bill."""
