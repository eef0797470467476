"""The authors' models: their checkpoints, downloaded or at hand -> exact models in the user's folder, as ladders.

    catalogue.json -> catalogue.py     what is published: names, lambdas, links
    link -> checkpoint                 download.py, with gdown
    folder -> checkpoint               folder.py
    checkpoint -> exact model          get.py, with torch, calibrated on photos/

Nothing else of hpcm knows this room: what it makes are weights files as any others.
"""
