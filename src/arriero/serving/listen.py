"""Where the server listens, and under which names it answers."""

from __future__ import annotations

import errno
import ipaddress
import socket

from arriero.errors import ArrieroError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address; port 0 takes a free one.

    Raises:
        ArrieroError: the port is taken or not allowed, or the host is none of this machine's.
    """
    if not 0 <= port <= 65535:
        raise ArrieroError(f"port {port} is none: give one from 1 to 65535, or 0 for a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise ArrieroError(
            f"the host '{host}' is unknown: give an address of this machine, e.g. 127.0.0.1"
        ) from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # only skips the wait after a server that ended
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise ArrieroError(_why_not(error, host, port)) from None
    return sock


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program: choose another with --port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"port {port} is not allowed for this user: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"'{host}' is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all of them"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


def base_url(sock: socket.socket, host: str) -> str:
    """The address to show: a name that works from this machine."""
    address, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, host if host else address)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def allowed_hosts(sock: socket.socket, host: str) -> frozenset[str] | None:
    """Names for the Host header: this machine's own on a loopback address, any elsewhere."""
    return LOOPBACK_NAMES | {host.lower(), sock.getsockname()[0]} if is_loopback(sock) else None
