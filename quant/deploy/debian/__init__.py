"""`make deb`: a Debian package of the runtime for three processors, without root.

modules   Python modules that bookworm does not have
pages     man page, completion
package   the files, and the archive of them
"""
