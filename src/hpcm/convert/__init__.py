"""The authors' checkpoints -> exact models: catalogue, download, import, calibration."""
