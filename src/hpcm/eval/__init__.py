"""`hpcm eval` and `hpcm bench`: what a codec is worth, measured so that the numbers can be compared.

    util/metrics.py   PSNR, MS-SSIM, LPIPS of two pictures
    rivals.py    the conventional codecs, one class of two methods each (and yuv.py)
    ours.py      an hpcm model behind the same two methods, with the time split into its parts
    measure.py   one codec at one setting on one picture; cached, in any number of processes
    bdrate.py    what two curves differ by, and published curves (anchors.json) to compare with
    evaluate.py  all of it: pictures and codecs -> results.json, report.html
    report.py    results -> tables, plots (plots.py) and pictures side by side (shown.py)
    machine.py   what numbers were measured on, and with which versions
    bench.py     parameters, MACs and times of models, beside what the machine could do at most
    released.py  the authors' released code on the same weights, for bench

The rules: a rate is that of a real file, headers included; a picture is compared after it was decoded from that file,
as 8-bit RGB; PSNR is the mean over pictures of the pictures' PSNR; every codec is told how many threads it has.
"""
