"""The words every Kingmaker service shares: the resource people write, the records services exchange, their names.

Types and pure conversions only: nothing here opens a socket, a file or a clock. A change in this
package changes what already running pods read, so `tests/contracts` holds every wire form as a file.
"""
