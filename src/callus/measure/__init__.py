"""How fast a model answers on this machine, and what the time and the memory go to: :func:`callus.measure.run.measure`.

Nothing is imported here: the processes that are measured come through this file.
"""
