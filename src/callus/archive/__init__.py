"""Many files: which they are, prepared in processes, answered as a stream, kept in Parquet parts that are gone on with.

Import from the modules. This one stays empty, so that the command line's help, which needs ``listing`` only, is quick.
"""
