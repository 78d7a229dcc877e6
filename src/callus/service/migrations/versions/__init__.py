"""One module a version, each named by what it brought."""
