"""Hello world with h11 in the way of its documentation: a thread for each connection.

h11 judges the bytes and keeps the states; the methods are those of the laboratory's servers, so that what
is left to disagree about is the protocol. 299 tells the request that asks whether the connection persists
from all others.
"""

import argparse
import email.utils
import socket
import threading

import h11

# h11 limits what is there of a head that is not whole, and how much is there is a matter of chance: so
# much that no limit is met.
HEAD_MAX = 1 << 20

NOT_ALLOWED = {b"POST", b"PUT", b"DELETE", b"CONNECT", b"TRACE", b"PATCH"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, metavar="ADDR")
    host, port = parser.parse_args().listen.rsplit(":", 1)
    with socket.create_server((host, int(port)), backlog=1000) as listener:
        print("listening on %s:%d" % listener.getsockname(), flush=True)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=converse, args=(peer,), daemon=True).start()


def converse(peer):
    """Answers request after request, then closes in stages."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    with peer:
        peer.settimeout(10)
        try:
            while serve(connection, peer):
                connection.start_next_cycle()
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
        except OSError:
            pass  # The peer is gone, or silent for too long.


def serve(connection, peer):
    """One request. Whether another may follow."""
    request = None
    try:
        request = next_event(connection, peer)
        if type(request) is not h11.Request:
            return False
        while type(next_event(connection, peer)) is not h11.EndOfMessage:
            pass
        respond(connection, peer, request, *answer(request))
    except h11.RemoteProtocolError as error:
        if connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            respond(connection, peer, request, error.error_status_hint, str(error).encode())
        return False
    return connection.our_state is h11.DONE


def next_event(connection, peer):
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            peer.sendall(connection.send(proceed))
        connection.receive_data(peer.recv(65536))


def answer(request):
    if request.method == b"OPTIONS":
        return 204, b""
    if request.method in NOT_ALLOWED:
        return 405, b"not allowed"
    if request.method not in (b"GET", b"HEAD"):
        return 501, b"not implemented"
    if request.target == b"/further":
        return 299, b""
    return 200, b"hello world"


def respond(connection, peer, request, status, text):
    headers = [("Date", email.utils.formatdate(usegmt=True))]
    if status != 204:
        headers += [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
    output = connection.send(h11.Response(status_code=status, headers=headers))
    if text and not (request and request.method == b"HEAD"):
        output += connection.send(h11.Data(data=text))
    peer.sendall(output + connection.send(h11.EndOfMessage()))


main()
