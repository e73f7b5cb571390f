"""Checks Ed25519 signatures (RFC 8032) with the libcrypto that the system's Python is linked with; it cannot sign.

A library of our own would add 4 MB of wheel for one call, and cryptography is not written by hand. Debian's python3 depends
on libssl3, so libcrypto.so.3 is on every device that this runs on.
"""

from __future__ import annotations

import ctypes
from functools import cache

from lsbuild_runtime.updates.errors import Unusable

LIBRARY = "libcrypto.so.3"
_ED25519 = 1087
"""EVP_PKEY_ED25519 (openssl/obj_mac.h)."""


def is_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) of ``message`` was made with the secret of ``key`` (32 bytes).

    OpenSSL refuses an S that is not below the order of the group, so nobody makes a second signature of a first one.
    Raises Unusable where there is no such library.
    """
    if len(key) != 32 or len(signature) != 64:
        return False
    crypto = _crypto()
    public = crypto.EVP_PKEY_new_raw_public_key(_ED25519, None, key, len(key))
    if not public:
        return False
    context = crypto.EVP_MD_CTX_new()
    try:
        # The type of digest has to be none: Ed25519 hashes by itself.
        if not context or crypto.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
            return False
        return bool(crypto.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1)
    finally:
        crypto.EVP_MD_CTX_free(context)
        crypto.EVP_PKEY_free(public)


@cache
def _crypto() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
        void, size, data = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        for name, result, arguments in (
            ("EVP_PKEY_new_raw_public_key", void, [ctypes.c_int, void, data, size]),
            ("EVP_MD_CTX_new", void, []),
            ("EVP_DigestVerifyInit", ctypes.c_int, [void, void, void, void, void]),
            ("EVP_DigestVerify", ctypes.c_int, [void, data, size, data, size]),
            ("EVP_MD_CTX_free", None, [void]),
            ("EVP_PKEY_free", None, [void]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise Unusable(f"signatures cannot be checked: {error}; install OpenSSL 3 (apt-get install libssl3)") from None
    return library
