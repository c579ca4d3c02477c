"""Who may ask the page: the host that it was given, no other site, and beyond this machine whoever has the token.

A page of another site can make a browser send requests here, and by a name of its own that leads to 127.0.0.1 (DNS
rebinding) even read the answers. The host that a request names and the site that it comes from tell it apart.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

HERE = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """`token` "" asks for none."""

    address: str
    port: int
    token: str

    @property
    def hosts(self) -> set[str]:
        """Host headers that are this page's."""
        names = {self.address, "localhost"} if is_loopback(self.address) else {self.address}
        return {f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}" for name in names}

    @property
    def link(self) -> str:
        """What to open."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def refusal(self, host: str, origin: str | None, token: str) -> str:
        """One line that says why not; "" lets in."""
        if host not in self.hosts:
            return f"this is not {host or 'a nameless host'}; open {self.link.partition('?')[0]}"
        if origin is not None and origin not in {f"http://{name}" for name in self.hosts}:
            return f"another site, {origin}, may not ask here"
        if self.token and not hmac.compare_digest(token.encode(), self.token.encode()):
            return "the token is missing or wrong; open the link that `edge-denoise panel` printed"
        return ""


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it. ValueError: it is no address, or stands for all, by which nobody asks."""
    found = ipaddress.ip_address(address)
    if found.is_unspecified:
        raise ValueError(address)
    return found.is_loopback
