"""Sets of pictures, on a disk or in a bucket: loose files, tar shards and Parquet. Needs pyarrow."""
