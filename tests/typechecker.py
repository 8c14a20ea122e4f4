"""The checker of every annotation in connr while tests run: an int is a float (PEP 484), shapes are jaxtyping's."""

from beartype import BeartypeConf, beartype

typed = beartype(conf=BeartypeConf(is_pep484_tower=True))
