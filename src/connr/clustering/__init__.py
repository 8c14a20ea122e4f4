"""k-means, cluster boundaries, anchor filters and assigners."""
