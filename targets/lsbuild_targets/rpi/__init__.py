"""The target ``rpi``: 64-bit Raspberry Pis with Debian or Raspberry Pi OS."""
