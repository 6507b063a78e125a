"""Generators of small data sets in the layouts of real ones, with the truth beside them; nothing here reads data.

`commands.py` lists those that `dfm data` offers. Readers never import from here.
"""
