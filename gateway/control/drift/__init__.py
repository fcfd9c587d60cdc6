"""Drift in control: answers come in from workers, are judged in a thread, and what is found is told."""
