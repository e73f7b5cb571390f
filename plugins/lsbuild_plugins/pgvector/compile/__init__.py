"""The compile half: passages with vectors become the seed of the shared store; never ships."""
