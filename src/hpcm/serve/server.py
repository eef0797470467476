"""The socket, and uvicorn on it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn
from PIL import Image

from ..errors import UsageError
from ..format.fields import MAX_ENCODED
from .api import application
from .hosts import ANYWHERE, THIS_MACHINE, AllowedHosts, is_loopback
from .limits import Limits
from .middleware import Middleware
from .models import Models
from .pool import Pool
from .site import assets

CONNECTIONS = 512  # at once; uvicorn itself answers more of them with a 503
PATIENCE = 5  # seconds that requests have to end when the server is stopped
INTERRUPTED = 130  # exit code


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use: name another with --port") from None
        raise UsageError(f"{host} port {port} can't be listened on: {error.strerror or error}") from None


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    host = "localhost" if host in ANYWHERE else host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_private(host: str) -> bool:
    """Whether only this machine can reach a server there."""
    return host == THIS_MACHINE or is_loopback(host)


def server(models: Models, limits: Limits, hosts: AllowedHosts | None = None) -> tuple[uvicorn.Server, Pool]:
    """A server that waits for a socket, and what does its work. Raises WeightsError."""
    models.codec(models.default)
    Image.init()
    # Pixels are counted before a picture is decoded; beyond Pillow's own bound it would refuse to read the header.
    Image.MAX_IMAGE_PIXELS = max(limits.max_pixels, MAX_ENCODED)
    app = application(models, limits, assets(models))
    config = uvicorn.Config(
        Middleware(app, limits.timeout, hosts or AllowedHosts()),
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_level="critical",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
    )
    return uvicorn.Server(config), app.state.pool


def serve(
    models: Models, limits: Limits, host: str, port: int, opened: Callable[[str], None], names: Sequence[str] = ()
) -> None:
    """Serves until it is interrupted. Raises UsageError, WeightsError, KeyboardInterrupt.

    Args:
        names: by which the server is asked for, besides `host` and those of this machine.
        opened: is called with the URL when the socket takes connections.
    """
    with listen(host, port) as listening:
        running, pool = server(models, limits, AllowedHosts(host, names))
        opened(url_of(listening))
        try:
            running.run(sockets=[listening])
        finally:
            pool.close()
            if pool.working:  # a thread can't be stopped, and Python would wait for it
                if sys.stdout is not None:
                    sys.stdout.flush()
                os._exit(INTERRUPTED)
