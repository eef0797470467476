"""Defaults, bounds and choices that both the code and the help texts of the commands state.

They stand below everything else and import nothing, so that `hpcm --help` needs none of the code that they govern.
"""

# ---- files ----------------------------------------------------------------------------------------------------------

SUFFIX = ".hpcm"
MIME_TYPE = "image/x-hpcm"
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".tif",
        ".tiff",
    }
    | {".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
    | {".tga", ".pcx", ".pcd", ".qoi", ".ras", ".sgi"}
)  # that are looked for in folders, archives and buckets; a file that is named may have any

# ---- compress and decompress ----------------------------------------------------------------------------------------

DEFAULT_MODEL = "lite"
MAX_QUALITY = 100
BASE_QUALITY = 80  # the best of a model alone; better ones have a residual layer: codec/quality.py
DEFAULT_QUALITY = 50
STEPS = (  # of coefficients (core/residual.py), for the qualities above a model's best level, each about 6% more bytes
    *(76, 66, 58, 51, 46, 42, 38, 35, 32, 30),
    *(27, 25, 23, 21, 19, 17, 16, 14, 13, 12),
)
MAX_EFFORT = 9  # 0: no search for a smaller file
TILE_SIDE = 1024  # pixels, of the files that are written
MAX_TILE_SIDE = 4096  # pixels; a tile is decoded at once, so its size bounds the memory
MAX_DECODED = 1 << 28  # pixels of a picture that is decoded, unless the caller says otherwise: 0.8 GB as 8-bit RGB
ENGINES = ("auto", "core", "torch")
STRIPS = ("all", "gps")  # which metadata are left out: image/metadata/strip.py
ICC_SPACES = ("srgb",)  # that colours are converted to by their ICC profile: image/colours.py
MAX_THREADS = 256  # of one model; core/model.c has the same
DEVICES = ("cpu", "cuda")
GPU_AT_ONCE = 8  # tiles that an engine on a GPU likes to be given at once
CARRIERS = ("float32", "split", "float64")  # number formats of an exact model's sums: nn/exact/grid.py

# ---- training and import --------------------------------------------------------------------------------------------

LOSSES = ("mse", "ms-ssim", "mixed", "ssimulacra2")
PUBLISHED_LAMBDAS = {  # arXiv 2507.19125; "mixed" and "ssimulacra2" have the units of "mse"
    "mse": (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483),
    "ms-ssim": (2.4, 4.58, 8.73, 16.64, 31.73, 60.5),
}
ARCHITECTURES = ("base", "large", "1b", "base-phi")  # of the authors' checkpoints
