"""Images to index, wherever they lie: folders, archives, Parquet files, lists of paths, object stores."""
