"""One module a method: a step against naive loops, its phases as published, and a short run."""
