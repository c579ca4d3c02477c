"""From one sound device to another, for days.

fifo            samples in fixed memory
rate            sample rates of live sound
channels        which of the device's channels become streams
controls        what may be set while it runs
drift           two clocks
overload        when the board cannot keep up
realtime        priority and locked memory
status          what it is doing, in numbers
margin          the sound that playback keeps in reserve
chain           everything between capture and playback
loop            the thread
float_wav       a file that is whole at every second, beyond 4 GiB too
tee             both sides into files
view            the status for the eye
control_socket  the status and controls for programs
kept_settings   settings that outlive a killed service
systemd         READY, WATCHDOG, STOPPING
session         the loop in its thread and all around it
"""
