"""The report of a sweep: gathered once into a document of plain blocks, then written as HTML and as Markdown."""
