"""Which recipe of a chemical language model is worth its cost, and is the difference real?"""

__version__ = "0.1.0"
