"""Every error that hpcm raises on purpose, under one root.

    Exception
    └── HPCMError                 anything below; what the command line turns into one line and a non-zero exit code
        ├── FormatError           the bytes are no .hpcm file that this version reads
        │   ├── TruncatedError    ... they end too early
        │   └── CorruptError      ... they were changed: a CRC differs or a payload cannot be what an encoder wrote
        ├── MismatchError         the file is sound, but the decoded symbols are not those that were encoded
        ├── ModelNotFoundError    the model that is asked for is not on this machine
        ├── WeightsError          a weights file cannot be read
        ├── PictureError          an input picture cannot be read or has a form that is not supported
        │   └── TooLargeError         ... it has more pixels than are allowed
        ├── TrainingError         training can't go on
        └── UsageError            the call or the command line asks for something that cannot be done

A message says what was found, what is allowed, and what to do about it. Anything that is not an `HPCMError` and comes
out of hpcm is a bug in hpcm or in the code that calls it.
"""


class HPCMError(Exception):
    """The root: `except HPCMError` catches every failure that hpcm expects."""


class FormatError(HPCMError):
    """The bytes are no .hpcm file, have a version that this hpcm does not know, or a field is out of its bounds."""


class TruncatedError(FormatError):
    """The bytes end before the file does: an interrupted download or copy. Fetching it again usually helps."""


class CorruptError(FormatError):
    """The bytes were changed after they were written: a CRC differs, or a payload is impossible."""


class MismatchError(HPCMError):
    """The decoded symbols do not match the checksum in the file.

    The bytes themselves are intact, so the decoder's model or arithmetic differs from the encoder's.
    """


class ModelNotFoundError(HPCMError):
    """No model of the wanted name, or none with the wanted hash, is installed; the message names both."""


class WeightsError(HPCMError):
    """A weights file is unreadable, incomplete, or of another kind."""


class PictureError(HPCMError):
    """An input picture is unreadable, or its size, colour or depth is not supported."""


class TooLargeError(PictureError):
    """An input picture has more pixels than are allowed; `size` is its width and height, where they are known."""

    def __init__(self, message: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.size = size


class UsageError(HPCMError):
    """The call or the command line is understood, but asks for something that cannot be done."""


class TrainingError(HPCMError):
    """Training can't go on: the gradients stay infinite or undefined."""
