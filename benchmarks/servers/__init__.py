"""
The servers under test, each written as its library's own users would write it well.

All of them keep a deadline and a long backlog, as a server on the open network has to; the C loop
does not, because it is there to show what the kernel takes.
"""
