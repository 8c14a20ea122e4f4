"""The loss functions against naive loops."""
