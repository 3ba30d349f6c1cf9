"""Has the kernel drop packets that a socket isn't for, before it copies them (socket(7))."""

import socket
import struct
from ctypes import addressof, create_string_buffer

from cablectl.linux.bpf import INSTRUCTION

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module lacks it


def attach(to: socket.socket, program: bytes) -> None:
    """Give a socket a program of classic BPF (`linux.bpf`) as its filter; OSError if it fails."""
    instructions = create_string_buffer(program, len(program))
    number = len(program) // INSTRUCTION
    given = struct.pack("@HP", number, addressof(instructions))  # struct sock_fprog
    to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)
