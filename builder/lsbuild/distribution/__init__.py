"""Registries of images, asked over the OCI distribution API: names, logins, blobs and manifests. It knows no target."""
