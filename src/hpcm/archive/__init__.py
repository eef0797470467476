"""Archives: any number of pictures to .hpcm and back, on as many machines as Ray has.

    from hpcm import archive

    archive.compress("s3://bucket/photos", "s3://bucket/small", quality=50)
    archive.restore("s3://bucket/small", "/disk/photos")

Needs the extra `ray`: pip install 'hpcm-codec[ray]'.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import UsageError

if not (find_spec("ray") and find_spec("pyarrow")):
    raise UsageError("archives need Ray and pyarrow: pip install 'hpcm-codec[ray]'")

from .run import Summary, compress, restore

__all__ = ["compress", "restore", "Summary"]
