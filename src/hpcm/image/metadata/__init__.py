"""What belongs to a picture besides its pixels. Bytes in, bytes out: nothing here needs Pillow.

kept.py     the fields that a .hpcm file has for it, and their names in Pillow's `info`
gather.py   what a picture has -> those fields, and one line of what they have no place for
scan.py     every segment, chunk, block or box of a picture file, by name (jpeg.py and boxes.py for two families)
pieces.py   those names
exif.py     EXIF: patched where it lies, so that all else stays byte for byte
tiff.py     TIFF files, whose own directories are their EXIF: read, and written
xmp.py      XMP: without what no longer holds for the picture
writing.py  what a format has a place for, and one line that tells the rest
"""
