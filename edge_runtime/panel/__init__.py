"""`edge-denoise panel`: a page that shows and steers a running `live`, in a process of its own.

guard   who may ask: host, origin, token
server  the page, and what it asks for, over the control socket
"""
