"""`hpcm serve`: the page and the HTTP API on this machine, or the page as a folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError
from ..serve.limits import Limits
from . import types
from .messages import say
from .parsing import Commands, add_command

MAX_PORT = 65535
EXTRA = ("fastapi", "uvicorn")  # packages of the extra `serve`


def add(commands: Commands) -> None:
    text = "serve a page that encodes in the browser, and an HTTP API"
    command = add_command(commands, "serve", serve, text)
    command.add_argument("--port", type=_port, default=8000, metavar="N", help="by default 8000; 0: any that is free")
    text = "address to listen on, by default 127.0.0.1, which only this machine reaches"
    command.add_argument("--host", default="127.0.0.1", help=text)
    text = "a name by which the server may be asked for, besides --host and localhost; for each name once more"
    command.add_argument("--allow-host", type=_name, action="append", default=[], metavar="NAME", help=text)
    text = "models that compress, the first by default; without it all installed ones. All installed ones decode"
    command.add_argument("--model", nargs="+", default=[], metavar="NAME|PATH", help=text)
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    text = "write the page and its models into a folder for any file server, and exit"
    command.add_argument("--export", metavar="FOLDER", help=text)
    command.add_argument("-f", "--force", action="store_true", help="export into a folder that isn't empty")
    text = "refuse larger bodies, by default %(default)s"
    command.add_argument("--max-bytes", type=types.whole, default=Limits.max_bytes, metavar="N", help=text)
    text = "refuse larger pictures, by default %(default)s"
    command.add_argument("--max-pixels", type=types.whole, default=Limits.max_pixels, metavar="N", help=text)
    text = "seconds for each of: receiving the body, waiting, the work, sending the answer; by default %(default)g"
    command.add_argument("--timeout", type=types.positive, default=Limits.timeout, metavar="S", help=text)
    text = "pictures that are encoded or decoded in parallel, by default one for each core"
    command.add_argument("--workers", type=types.whole, metavar="N", help=text)
    text = "requests that wait for a worker; more get the status 503; by default %(default)s"
    command.add_argument("--queue", type=types.whole, default=Limits.queue, metavar="N", help=text)
    text = "CPU threads of each picture, by default 1"
    command.add_argument("--threads", type=types.whole, default=Limits.threads, metavar="N", help=text)


def serve(options: argparse.Namespace) -> None:
    if options.export is not None:
        export(options)
        return
    if not all(map(find_spec, EXTRA)):
        raise UsageError("this needs FastAPI and uvicorn: pip install 'hpcm-codec[serve]'")
    import webbrowser

    from ..serve.models import Models
    from ..serve.server import is_private, serve

    def opened(url: str) -> None:
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        if not is_private(options.host):
            say("note", f"whoever reaches {options.host} can use it: there is no password (docs/serving.md)")
        if options.open:
            webbrowser.open(url)

    names = ("max_bytes", "max_pixels", "timeout", "queue", "threads")
    limits = Limits(**{name: getattr(options, name) for name in names})
    if options.workers:
        limits = replace(limits, workers=options.workers)
    serve(Models(options.model, options.threads), limits, options.host, options.port, opened, options.allow_host)


def export(options: argparse.Namespace) -> None:
    from ..serve.export import export
    from ..serve.models import Models

    if not options.export:  # which Path takes for the working directory
        raise UsageError("the name of the folder is empty")
    files, size = export(Path(options.export), Models(options.model), force=options.force)
    print(f"{options.export}  {files} files, {size:,} bytes")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {MAX_PORT}")
    return int(text)


def _name(text: str) -> str:
    """A host's name or address, also with a port, which doesn't matter."""
    from ..serve.hosts import host_of, is_address

    name = text if is_address(text) else host_of(text)
    if name is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a host, such as pictures.example.org")
    return name
