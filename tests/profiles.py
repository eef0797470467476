"""Small ICC profiles (ICC.1:2010), made by hand, and what they mean, computed without a library for colours."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)  # XYZ of white in profiles
P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)  # of Display P3, under D50
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
GAMMA = 2.0  # of the profiles here; a number of 8.8 bits
PAPER = {  # ink: L, a, b where it is printed alone
    "C": (55, -37, -50),
    "M": (48, 74, -3),
    "Y": (89, -5, 93),
    "K": (10, 0, 0),
}


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def text(words: str) -> bytes:
    body = words.encode() + b"\0"
    data = b"desc\0\0\0\0" + struct.pack(">I", len(body)) + body + bytes(4 + 4 + 2 + 1 + 67)
    return data + bytes(-len(data) % 4)


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """A profile of version 2.4: header, table of tags, tags."""
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), b"\0\0\0\0", 0x02400000, kind, space, connection, bytes(12), b"acsp"
    )
    head = (head + bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in D50))).ljust(128, b"\0")
    return head + table + body


def rgb_profile(primaries=P3) -> bytes:
    """RGB by three primaries, a matrix: Display P3, but with a plain power as its curve."""
    colourants = {name: xyz(primary) for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(GAMMA))
    return profile(b"RGB ", {b"desc": text("wide"), b"wtpt": xyz(D50), **colourants, **curves})


def grey_profile(gamma: float = 1.0) -> bytes:
    return profile(b"GRAY", {b"desc": text("grey"), b"wtpt": xyz(D50), b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Four inks, by a table of their 16 combinations: the colours of PAPER, and black where there are several."""
    entries = []
    for number in range(16):
        inks = [name for bit, name in zip((8, 4, 2, 1), "CMYK", strict=True) if number & bit]
        lightness, a, b = (100, 0, 0) if not inks else PAPER[inks[0]] if len(inks) == 1 else (0, 0, 0)
        entries.append(bytes([round(lightness * 2.55), a + 128, b + 128]))
    identity = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    line = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + line * 4 + b"".join(entries) + line * 3
    table += bytes(-len(table) % 4)
    return profile(
        b"CMYK", {b"desc": text("inks"), b"wtpt": xyz(D50), b"A2B0": table, b"A2B1": table}, b"prtr", b"Lab "
    )


# ---- what they mean --------------------------------------------------------------------------------------------------


def srgb_of_xyz(values) -> np.ndarray:
    """8-bit sRGB, [..., 3], of XYZ under D50, with what sRGB doesn't have cut off."""
    linear = np.clip(np.asarray(values) @ np.linalg.inv(np.array(SRGB)), 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * coded)


def srgb_of_rgb(pixels: np.ndarray, primaries=P3) -> np.ndarray:
    """8-bit sRGB of pixels of `rgb_profile`, [..., 3]."""
    return srgb_of_xyz((pixels / 255) ** GAMMA @ np.array(primaries))


def srgb_of_lab(lab) -> np.ndarray:
    """8-bit sRGB of CIE L*a*b* under D50."""
    y = (lab[0] + 16) / 116
    ratios = [y + lab[1] / 500, y, y - lab[2] / 200]
    return srgb_of_xyz(
        [white * (t**3 if t > 6 / 29 else (t - 4 / 29) * 108 / 841) for white, t in zip(D50, ratios, strict=True)]
    )
