"""The demonstration that compose.yaml runs."""
