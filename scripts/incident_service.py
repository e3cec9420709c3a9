"""A web service with a fault, as such faults are: pages are kept once they are rendered, and nothing ever drops one.

GET /page?NAME answers with a page. With --bounded the last 256 pages are kept, which is the fault mended.
"""

import collections
import http.server
import signal
import sys

PAGES = collections.OrderedDict()
KEPT_PAGES = 256 if "--bounded" in sys.argv else sys.maxsize


def render(name):
    """A page of some 24 KiB."""
    return "".join(f"<tr><td>{name}</td><td>{row}</td></tr>" for row in range(700)).encode()


def page(name):
    if name not in PAGES:
        PAGES[name] = render(name)
        if len(PAGES) > KEPT_PAGES:
            PAGES.popitem(last=False)
    return PAGES[name]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else the page waits until the client has acknowledged the header.
    disable_nagle_algorithm = True

    def do_GET(self):
        body = page(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing is logged."""


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
