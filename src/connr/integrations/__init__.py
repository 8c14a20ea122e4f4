"""ConNR in other training loops: `two_stages` in any loop, `lightly`, `lightning`, `solo`.

None of those packages is imported before the module of its name is.
"""

__all__: list[str] = []
