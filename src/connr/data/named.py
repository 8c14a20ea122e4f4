"""Data sets that DATA may name, each with a recipe of the same name."""

NAMED = ("digits",)
