"""nginx and haproxy in front of a gateway, each as lenient as it can be, so that more comes through."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

from tests.running import eventually

_NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log error.txt; user root;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  client_header_timeout 1s; client_body_timeout 1s; client_max_body_size 64m;
  large_client_header_buffers 8 64k;
  ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
  upstream gateway { server 127.0.0.1:GATEWAY; keepalive 8; }
  server {
    listen 127.0.0.1:PORT;
    location / {
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
      proxy_next_upstream off;
    }
  }
}
"""
_HAPROXY = """
global
  maxconn 512
defaults
  mode http
  timeout connect 2s
  timeout client 20s
  timeout server 10s
  timeout http-request 1s
  timeout http-keep-alive 20s
  option accept-invalid-http-request
  http-reuse always
frontend callers
  bind 127.0.0.1:PORT proto h1
  default_backend gateway
backend gateway
  option accept-invalid-http-response
  server one 127.0.0.1:GATEWAY
"""


class Proxy:
    """A running proxy on `port`."""

    def __init__(self, name: str, program: str, folder: Path, gateway_port: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        text = _NGINX if name == "nginx" else _HAPROXY
        file = folder / f"{name}.conf"
        file.write_text(text.replace("GATEWAY", str(gateway_port)).replace("PORT", str(self.port)))
        command = {
            "nginx": [program, "-p", str(folder), "-c", str(file), "-e", "error.txt"],
            "haproxy": [program, "-db", "-f", str(file)],
        }
        self._said = folder / "said.txt"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(command[name], cwd=folder, stdout=said, stderr=said)

    async def ready(self) -> None:
        """Until it takes connections."""

        async def listens() -> bool:
            assert self._process.poll() is None, self._said.read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return False
            writer.close()
            return True

        await eventually(listens, says=self._said.read_text)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
