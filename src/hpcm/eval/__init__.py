"""`hpcm eval` and `hpcm bench`: what a codec is worth, measured so that the numbers can be compared.

    evaluate.py      all of it: pictures and codecs -> results.json, report.html
    protocol.py      what is asked of a codec: two methods and how it describes itself
    baselines.py     the conventional codecs (and yuv.py)
    hpcm_codec.py    a model of hpcm, with its time split into parts (timing.py)
    measure.py       one codec at one setting on one picture; cached, in any number of processes
    metrics.py       PSNR, MS-SSIM, SSIMULACRA 2, LPIPS of two pictures
    results.py       what was measured, as dataclasses; results.json and pictures.csv
    columns.py       which pictures and settings each metric's mean is over
    datasets.py      whether the pictures are those of Kodak, CLIC or Tecnick (datasets.json)
    bdrate.py        what two curves differ by
    anchors.py       published curves (anchors.json) to compare with
    comparison.py    BD-rates of all pairs of codecs
    report.py        results -> tables, plots (plots.py), a page (page.html)
    side_by_side.py  pictures at about equal bytes, for the page
    machine.py       what numbers were measured on, and with which versions

    cost.py          parameters and multiplications
    bench/           how fast a model is, beside others

The rules: a rate is that of a real file, headers included; a picture is compared after it was decoded from that file,
as 8-bit RGB; PSNR is the mean over pictures of the pictures' PSNR; every codec gets the same number of threads.
"""
