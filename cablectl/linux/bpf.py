"""Instructions of classic BPF, of which the filter of a socket is made (linux/filter.h)."""

import struct

INSTRUCTION = 8  # bytes
# linux/bpf_common.h: load bytes at an offset, or at an offset after the header of IPv4.
SIZES = {1: 0x10, 2: 0x08, 4: 0x00}  # by the number of bytes
LOAD, LOAD_AFTER_HEADER, HEADER_TO_X = 0x20, 0x40, 0xB1
AND, JUMP_IF_EQUAL, RETURN = 0x54, 0x15, 0x06


def instruction(code: int, value: int, passed: int = 0, failed: int = 0) -> bytes:
    """Return a struct sock_filter (linux/filter.h); a jump skips so many instructions."""
    return struct.pack("=HBBI", code, passed, failed, value)
