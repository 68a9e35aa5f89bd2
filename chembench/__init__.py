"""Which recipe of a chemical language model is worth its cost, and is the difference real?"""
