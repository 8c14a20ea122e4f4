"""k-means, cluster boundaries, anchor filters and assigners."""

__all__: list[str] = []
