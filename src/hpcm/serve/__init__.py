"""`hpcm serve`: a page that codes in the browser, and an HTTP API for programs.

    server.py      the socket and uvicorn             middleware.py  what holds for every request: headers, slow clients
    api.py         the operations, by their URLs      queries.py     their parameters
    work.py        bytes -> bytes, in a thread        pool.py        places, threads, time limits
    models.py      the models; codecs loaded once     reading.py     untrusted pictures, opened within limits
    upload.py      a body, bounded                    limits.py      how much is taken at once
    status.py      errors as status and line          handlers.py    errors as JSON
    hosts.py       refuses other sites' pages         site.py        the page's files, by their URLs
    export.py      the page as a folder, for any file server

api, handlers, middleware, queries, server and upload need the extra `serve`; the others, and so --export, don't.
"""
