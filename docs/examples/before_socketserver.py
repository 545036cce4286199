from socketserver import StreamRequestHandler, ThreadingTCPServer


class Door(StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        try:
            word = self.rfile.readline(65).rstrip(b"\n")
        except TimeoutError:
            return
        if word != b"sesame":
            self.wfile.write(b"NO\n")
            return
        self.wfile.write(b"OK\n")
        for line in self.rfile:
            self.wfile.write(line)


with ThreadingTCPServer(("127.0.0.1", 8471), Door) as server:
    print("listens on 127.0.0.1:8471")
    server.serve_forever()
