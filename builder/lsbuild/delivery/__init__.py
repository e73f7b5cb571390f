"""How an artifact gets to where it runs: deployed, pushed over ssh, flashed. Nothing here builds."""
