"""Runs inside the emulated machine, as root, under systemd."""
import json, subprocess, os,time
out = {}
def say(*a): print("%.1f"%time.monotonic(),*a,flush=True)
for m in ("soundcore", "snd", "snd-timer", "snd-pcm", "snd-aloop"):
    subprocess.run(["insmod", f"/opt/modules/{m}.ko"])
say("insmod")
subprocess.run(["udevadm","settle","--timeout=20"])
say("settled")
out["uptime"]=open("/proc/uptime").read()
out["aplay"]=subprocess.run(["aplay","-l"],capture_output=True,text=True).stdout
out["snd"]=subprocess.run(["ls","-l","/dev/snd"],capture_output=True,text=True).stdout
say(out)
out["rec"]=subprocess.run("time timeout 10 arecord -D hw:0,1 -f S16_LE -r 16000 -c1 -d 2 /tmp/x.wav",shell=True,executable="/bin/bash",capture_output=True,text=True).stderr
say(out["rec"])
t=time.time(); import numpy; out["numpy_s"]=time.time()-t
say(out["numpy_s"])
out["bench"]=subprocess.run("edge-denoise bench --model /opt/model --engine native --json",shell=True,capture_output=True,text=True).stdout[-900:]
print("RIG-RESULT "+json.dumps(out),flush=True)
