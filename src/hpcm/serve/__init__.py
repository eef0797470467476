"""`hpcm serve`: a page that codes in the browser, and an HTTP API for programs.

    limits.py     how much is taken at once        offer.py      the models, and codecs loaded once
    site.py       the files, by their URLs         export.py     the same as a folder, for any file server
    work.py       bytes -> bytes, in a thread      reading.py    how pictures are opened here
    pool.py       places, threads, time limits     upload.py     a body, bounded
    door.py       what holds for every request: headers, slow clients
    refusal.py    errors as status and line        queries.py    the parameters
    api.py        the operations                   failures.py   errors as JSON
    callers.py    who may ask: no other site's pages
    run.py        the socket and uvicorn

api, door, failures, queries, run and upload need the extra `serve`; the others, and so --export, don't.
"""
