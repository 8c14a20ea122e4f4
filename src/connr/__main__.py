"""python -m connr"""

from connr.cli import app

app()
