"""What belongs to a picture besides its pixels. Bytes in, bytes out: nothing here needs Pillow.

record.py   the fields that a .hpcm file has for it, and their names in Pillow's `info`
gather.py   an image and its file -> those fields, and a note of what they have no place for
scan.py     lists every segment, chunk, block or box of a picture file (with jpeg.py and boxes.py)
pieces.py   an entry of that list, and the names that formats share
exif.py     EXIF: patched in place, so that all else stays byte for byte
gain_map.py  the numbers of an HDR gain map: as ISO 21496-1 and XMP have them
ultra_hdr.py  JPEG files with an HDR gain map: finds it, writes it
tiff.py     TIFF files, whose own directories are their EXIF: reads and writes them
xmp.py      XMP: removes properties that no longer hold for the picture
strip.py    takes out what somebody wants left out
writing.py  the fields that a picture format has a place for, and notes of the others
"""
