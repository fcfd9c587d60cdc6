"""The life of a call: read pipeline.py first."""
