"""The compile half: documents -> passages with vectors (one step for each shard) -> index; never ships."""
