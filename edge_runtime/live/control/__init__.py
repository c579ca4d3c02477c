"""What steers a live stream, from outside and across a restart.

controls        what may be set while it runs, and the mix that it makes
heard           the last hops, for a picture
control_socket  status and controls for programs
systemd         READY, WATCHDOG, STOPPING
kept_settings   settings that outlive a killed service
"""
