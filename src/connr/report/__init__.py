"""What people look at: the progress of a run, and pictures of its clusters."""
