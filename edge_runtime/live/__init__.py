"""From one sound device to another, for days.

channels   which of the device's channels become streams
sound      sound on its way, in fixed memory
control    what steers it: settings, socket, systemd
drift      two clocks
overload   when the board cannot keep up
realtime   priority and locked memory
status     what it is doing, in numbers
margin     the sound that playback keeps in reserve
chain      everything between capture and playback
loop       the thread
float_wav  a file that is whole at every second, beyond 4 GiB too
tee        both sides into files
view       the status for the eye
session    the loop in its thread and all around it
"""
