"""Whether this machine computes what every other does: pictures, what the models make of them, and each set of kernels.

    pictures     twenty pictures, drawn in integers, so that they are the same everywhere
    answers      the hashes of symbols and pixels that are right (answers.txt), and how they are made
    check        the sets of kernels of this machine against the answers

`hpcm selftest` prints what is found.
"""
