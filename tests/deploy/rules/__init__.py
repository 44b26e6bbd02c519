"""What must hold in deploy/ and in the Dockerfile, one module a kind of file.

A rule takes the top of a checkout and returns its findings, one line each; none means it holds.
"""
