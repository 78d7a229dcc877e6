"""What the API answers, field by field: mypy holds the code to it, and the API's description is made of it.

Words and ranges are told and not enforced: an answer is never held back because a number lies outside of what is told
of it. The tests hold every answer that they get to all of it. These modules do without ``from __future__ import
annotations``: pydantic reads the annotations when it runs.
"""
