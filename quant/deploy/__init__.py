"""The folder to a board over ssh.

ssh           the system's own ssh
board_python  the Python of a board, and wheels for it
release       `quant deploy`: bundle, prove, switch
wheels        the package for other processors
debian        the runtime as a Debian package
builtin       the models that come with the runtime
"""
