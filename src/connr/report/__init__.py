"""Reports: progress of a run, pictures of clusters, report.html."""

__all__: list[str] = []
