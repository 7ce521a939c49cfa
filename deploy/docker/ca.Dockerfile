# An image of signet-ca: the program and the libraries that it is linked with, as a user that is not root. From the root of the source:
#   docker build -f deploy/docker/ca.Dockerfile -t signet-ca:0.1.0 .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential binutils ca-certificates
WORKDIR /source
COPY . .
RUN make dist && deploy/docker/rootfs target/dist/signet-ca /rootfs

FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/bin/signet-ca"]
