"""nginx in front of the service."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import tool
from tests.serving import eventually, free_port

CONFIG = """
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, server: str, http: str = "") -> Iterator[str]:
    """Run nginx with these directives in `server` and `http`, and give nginx's URL.

    nginx writes its log into the folder, which need not exist. Skips the test if nginx is absent.
    """
    program = tool("nginx")
    folder.mkdir(exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    # If root starts nginx, nginx would read the folder as another user.
    user = "user root;" if folder.owner() == "root" else ""
    config.write_text(CONFIG.format(user=user, folder=folder, http=http, port=port, server=server))
    with subprocess.Popen([program, "-c", config, "-e", folder / "log"]) as process:
        try:
            assert eventually(lambda: _listens(port)), (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
