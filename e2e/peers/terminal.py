"""Plays a person at a terminal: python terminal.py STEPS PROGRAM [ARGUMENT...]

STEPS is a JSON list of [wait_for, type]: waits until the screen shows the one, then types the other. Prints JSON: what
the screen showed, the exit code, and whether the terminal echoes and edits lines again at the end.
"""

import json
import os
import pty
import select
import sys
import termios
import time

PATIENCE_SECONDS = 60
steps = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])

screen = b""
deadline = time.monotonic() + PATIENCE_SECONDS
modes = termios.tcgetattr(terminal)[3]


def look():
    """Reads what is there; false when the program has left the terminal."""
    global screen, modes
    modes = termios.tcgetattr(terminal)[3]
    if not select.select([terminal], [], [], 0.05)[0]:
        return time.monotonic() < deadline
    try:
        seen = os.read(terminal, 65536)
    except OSError:
        return False
    screen += seen
    return bool(seen)


here = True
told = 0
for wait_for, typed in steps:
    while here and screen.find(wait_for.encode(), told) < 0:
        here = look()
    # Only what is shown from now on counts for the next step.
    told = screen.find(wait_for.encode(), told) + len(wait_for.encode())
    os.write(terminal, typed.encode())
while here:
    here = look()
_, status = os.waitpid(pid, 0)
print(json.dumps({
    "screen": screen.decode(errors="replace"),
    "code": os.waitstatus_to_exitcode(status),
    "restored": bool(modes & termios.ECHO) and bool(modes & termios.ICANON) and bool(modes & termios.ISIG),
}))
