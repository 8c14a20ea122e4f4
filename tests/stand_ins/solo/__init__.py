"""Stands in for solo-learn, whose pins do not install here: written by us from what its documentation says of its interface.

Only what `connr.integrations.solo` and `examples/solo_byol.py` touch: METHODS, and a BYOL on a base method with the same
names, batch and outputs. Its network is a toy.
"""
