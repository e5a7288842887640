# The product's image: one static binary and nothing else. `./dev image` builds
# the binary first and leaves it where BINARY says.
FROM scratch

ARG BINARY=images/.build/upprof
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown

LABEL org.opencontainers.image.title="upprof" \
      org.opencontainers.image.description="Profiles OpenResty, nginx and LuaJIT in containers, with eBPF and without touching the target" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="README.md and docs/ of the source" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY ${BINARY} /upprof

# BPF and the memory of other processes need root: said, not implied. By number, since
# there is no passwd file.
USER 0:0
ENTRYPOINT ["/upprof"]
