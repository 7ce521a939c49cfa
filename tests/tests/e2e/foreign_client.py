"""One call of the gRPC library of C++ and Python over a Unix socket, told as JSON on standard output.

Arguments: the socket, the full name of the method, how it is called (unary or stream), the request in hexadecimal, and, if it
is to be another than the library's own, the authority of the calls.
"""

import json
import sys

import grpc

DEADLINE = 30


def main(socket, method, kind, request, authority=None):
    options = [] if authority is None else [("grpc.default_authority", authority)]
    told = {"code": "OK", "details": "", "response": None}
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        try:
            if kind == "unary":
                response = channel.unary_unary(method)(bytes.fromhex(request), timeout=DEADLINE)
            else:
                # The stream stays open until the first response is here, as a proxy's does.
                responses = channel.stream_stream(method)(iter([bytes.fromhex(request)]), timeout=DEADLINE)
                response = next(responses)
                responses.cancel()
            told["response"] = response.hex()
        except grpc.RpcError as error:
            told["code"] = error.code().name
            told["details"] = error.details()
    print(json.dumps(told))


main(*sys.argv[1:])
