"""Record every network address that Python code uses; Python imports this file at the
start of each process.

RSFT_NETWORK_LOG is the file to append to.
"""

import os
import sys


def _record(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in (
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
    ):
        address = arguments
    else:
        return
    if not isinstance(address, tuple):  # AF_UNIX, or a socket that is connected already
        return
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    if host in ("localhost", "::1", "None", "") or host.startswith("127."):
        return
    with open(os.environ["RSFT_NETWORK_LOG"], "a") as log:  # noqa: PTH123
        log.write(f"{event} {address!r} {' '.join(sys.argv[:3])}\n")


sys.addaudithook(_record)
